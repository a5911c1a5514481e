"""Closed-loop load: N connections, each sends its next request when it has its answer. By wrk, or by our own driver."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.driver import Load, drive, request_bytes

SCRIPT = Path(__file__).with_name("post.lua")
NO_ID_LEFT = "no-id-left"


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement: answers a second, latencies in milliseconds, and requests without a good answer."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int

    @classmethod
    def of(cls, load: Load) -> Figures:
        """The figures of what our own driver saw."""
        failed = load.statuses.total() - load.statuses[200]
        return cls(load.rate, load.quantile(0.5) * 1e3, load.quantile(0.99) * 1e3, failed)


@dataclass(frozen=True, slots=True)
class Loader:
    """What makes the load: the path of wrk, or None for our own driver."""

    wrk: str | None

    @property
    def name(self) -> str:
        """What to call it in a report."""
        return "wrk" if self.wrk else "driver.py"

    def run(
        self,
        port: int,
        body: Path,
        *,
        connections: int,
        seconds: float,
        path: str = "/predict",
        ids: Path | None = None,
        key: str = "",
        varying: Sequence[str] = (),
    ) -> Figures:
        """POST a body, and where ``ids`` names a file of ids, each of them once in the place of ID.

        Args:
            key: the API key that each request sends.
            varying: what differs from request to request, in the words of ``post.lua``; our own driver knows
                ``trace`` and ``order``.
        """
        if self.wrk is None:
            return Figures.of(_drive(port, path, body, ids, key, varying, connections=connections, seconds=seconds))
        options = (f"-c{connections}", "-t1", f"-d{max(round(seconds), 1)}s", "--timeout", "10s", "-s", str(SCRIPT))
        arguments = [str(body), str(ids or ""), key, " ".join(varying)]
        output = subprocess.run(
            [self.wrk, *options, f"http://127.0.0.1:{port}{path}", "--", *arguments],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return Figures(**json.loads(output.split("RESULT ")[1]))


def _drive(
    port: int,
    path: str,
    body: Path,
    ids: Path | None,
    key: str,
    varying: Sequence[str],
    *,
    connections: int,
    seconds: float,
) -> Load:
    content, start = body.read_bytes(), time.time_ns()
    numbers = itertools.count(1)
    if ids:
        callers: Iterator[str] = itertools.chain(ids.read_text(encoding="ascii").split(), itertools.repeat(NO_ID_LEFT))
    elif "order" in varying:
        callers = (f"order-{start}-{number}" for number in itertools.count())
    else:
        callers = itertools.repeat("")

    def build(identity: str) -> bytes:
        more = (f"X-API-Key: {key}",) if key else ()
        if "trace" in varying:
            more = (*more, f"traceparent: 00-{next(numbers):032x}-{1:016x}-01")
        return request_bytes(path, content.replace(b"ID", identity.encode(), 1) if identity else content, *more)

    return asyncio.run(drive(port, callers, build, connections=connections, seconds=seconds))
