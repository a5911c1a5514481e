"""A load generator for one HTTP endpoint: N keep-alive connections, one request each at a time.

Its rule for acknowledgements: an id is written down only after the whole body of a 200 has been read.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

RETRY_S = 0.05
NO_ANSWER = 0
"""Stands in ``statuses`` for a connection refused, reset, or closed before the whole answer came."""


@dataclass(slots=True)
class Load:
    """What a run saw; latencies in seconds, of 200s alone."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Answers with status 200 a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float:
        """The latency that ``share`` of the 200s did not exceed; NaN without any.

        >>> Load(latencies=[0.3, 0.1, 0.2]).quantile(0.5)
        0.2
        """
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def request_bytes(path: str, body: bytes, *more: str) -> bytes:
    """One POST of a JSON body, ready for the wire, with more lines of its head."""
    headers = ("Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(body)}", *more)
    return "\r\n".join((f"POST {path} HTTP/1.1", *headers, "", "")).encode() + body


async def drive(
    port: int,
    ids: Iterator[str],
    build: Callable[[str], bytes],
    *,
    connections: int,
    seconds: float,
    stop: asyncio.Event | None = None,
    acknowledged: TextIO | None = None,
) -> Load:
    """Send requests until ``seconds`` are over or ``stop`` is set.

    A request without a 200 is repeated with the same id, as a careful caller does; a lost connection is opened again.

    Args:
        ids: a new id for each request.
        build: the request's bytes for an id.
        acknowledged: where acknowledged ids go, one a line; open it line-buffered.
    """
    load = Load()
    over = stop or asyncio.Event()
    started = time.monotonic()
    clients = [asyncio.create_task(_client(port, ids, build, load, over, acknowledged)) for _ in range(connections)]
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)
    over.set()
    await asyncio.gather(*clients)
    load.seconds = time.monotonic() - started
    return load


async def _client(
    port: int,
    ids: Iterator[str],
    build: Callable[[str], bytes],
    load: Load,
    over: asyncio.Event,
    acknowledged: TextIO | None,
) -> None:
    writer: asyncio.StreamWriter | None = None
    identity = next(ids)
    while not over.is_set():
        started = time.perf_counter()
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(build(identity))
            status = await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            status = NO_ANSWER
            if writer:
                writer.close()
            writer = None
        load.statuses[status] += 1
        if status == 200:
            load.latencies.append(time.perf_counter() - started)
            if acknowledged:
                acknowledged.write(identity + "\n")
            identity = next(ids)
        else:
            await asyncio.sleep(RETRY_S)
    if writer:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> int:
    """The status, once the whole body is read; only answers with a Content-Length are understood."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return int(head[9:12])
