"""What every answer has, whichever way it took: a request id, careful headers, and a line in the access log."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, TypeAlias

import orjson

from app.api.wire import SECURITY_HEADERS, Call, Reply
from app.ids import new_id

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The caller's id where it is harmless in a log, else ours."""
    sent = headers.get(b"x-request-id")
    if sent is not None and REQUEST_ID.fullmatch(sent):
        return str(sent, "ascii")
    return new_id()


def common_headers(request_id: str) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of every answer."""
    return ((b"x-request-id", request_id.encode()), *SECURITY_HEADERS)


_Line: TypeAlias = tuple[str, str, str, int, float, Any]


class AccessLog:
    """JSON lines on standard output, written once a turn of the event loop.

    A write for each request would cost more than its answer.
    """

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._write = write or _to_standard_output
        self._noted: list[_Line] = []

    def note(self, request_id: str, method: str, route: str, status: int, seconds: float, notes: Any = None) -> None:
        """Note a line; it is written when the loop has no more requests at hand."""
        self._add([(request_id, method, route, status, seconds, notes)])

    def note_all(self, calls: Sequence[Call], replies: Sequence[Reply]) -> None:
        """Note a line for each of the calls, which are answered now."""
        now = perf_counter()
        self._add(
            [
                (call.request_id, call.method, call.path, reply.status, now - call.started, call.notes)
                for call, reply in zip(calls, replies, strict=True)
            ]
        )

    def _add(self, lines: Sequence[_Line]) -> None:
        if not self._noted:
            asyncio.get_running_loop().call_soon(self._flush)
        self._noted += lines

    def _flush(self) -> None:
        noted, self._noted = self._noted, []
        head = f'{{"time":"{datetime.now(UTC).isoformat()}","level":"info","logger":"access","event":"request"'
        self._write("".join([head + _rest(*note) for note in noted]).encode())


def _rest(request_id: str, method: str, route: str, status: int, seconds: float, notes: Any) -> str:
    """A line behind its time; none of these texts needs escaping, the notes may."""
    more = f",{orjson.dumps(notes).decode()[1:-1]}" if notes else ""
    return (
        f',"request_id":"{request_id}","method":"{method}","route":"{route}",'
        f'"status":{status},"duration_ms":{seconds * 1000:.3f}{more}}}\n'
    )


def _to_standard_output(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()
