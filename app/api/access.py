"""What every answer has, whichever way it took: a request id, careful headers, and a line in the access log."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from app.ids import new_id

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The caller's id where it is harmless in a log, else ours."""
    sent = headers.get(b"x-request-id")
    if sent is not None and REQUEST_ID.fullmatch(sent):
        return str(sent, "ascii")
    return new_id()


def common_headers(request_id: str) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of every answer."""
    return ((b"x-request-id", request_id.encode()), *SECURITY_HEADERS)


class AccessLog:
    """JSON lines on standard output, written once a turn of the event loop.

    A write for each request would cost more than its answer.
    """

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._write = write or _to_standard_output
        self._lines: list[bytes] = []

    def note(self, request_id: str, method: str, route: str, status: int, seconds: float, notes: Any = None) -> None:
        """Note a line; it is written when the loop has no more requests at hand."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        line = {
            "time": datetime.now(UTC),
            "level": "info",
            "logger": "access",
            "event": "request",
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
        }
        if notes:
            line.update(notes)
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._write(b"".join(lines))


def _to_standard_output(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()
