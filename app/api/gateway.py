"""The outermost layer: request ids, headers, the access log, and a short way for the hot routes past the framework."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson
import structlog
from prometheus_client import Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.wire import internal_error
from app.ids import new_id

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class AccessLog(Protocol):
    """Takes one line a request."""

    def __call__(self, **fields: Any) -> None:
        """Write the line."""


class Gateway:
    """ASGI middleware around the whole application.

    Args:
        hot: the endpoints that are called directly, by method and path.
    """

    def __init__(
        self, app: ASGIApp, hot: Mapping[tuple[str, str], ASGIApp], in_progress: Gauge, access_log: AccessLog
    ) -> None:
        self._app = app
        self._hot = hot
        self._in_progress = in_progress
        self._access_log = access_log
        self._log = structlog.get_logger("gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that goes wrong inside leaves as anything but an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope["plumbline.request_id"] = request_id
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    *SECURITY_HEADERS,
                ]
            await send(message)

        self._in_progress.inc()
        try:
            app = self._hot.get((scope["method"], scope["path"])) or self._app
            await app(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - the last resort; it is logged, and answered with its id
            self._log.exception("unexpected_error", error_id=request_id, exc_info=error)
            if not status:
                await internal_error(request_id).send(sending)
        finally:
            self._in_progress.dec()
            self._access_log(
                request_id=request_id,
                method=scope["method"],
                route=_route(scope, self._hot),
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 3),
                **scope.get("plumbline.notes", {}),
            )


class BufferedAccessLog:
    """JSON lines on standard output, written once a turn of the event loop.

    A write for each request would cost more than its answer.
    """

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._write = write or sys.stdout.buffer.write
        self._lines: list[bytes] = []

    def __call__(self, **fields: Any) -> None:
        """Note a line; it is written when the loop has no more requests at hand."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        self._lines.append(
            orjson.dumps({"time": now, "level": "info", "logger": "access", "event": "request", **fields})
        )

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._write(b"\n".join([*lines, b""]))
        sys.stdout.flush()


def _request_id(scope: Scope) -> str:
    """The caller's id where it is harmless in a log, else ours."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return new_id()


def _route(scope: Scope, hot: Mapping[tuple[str, str], ASGIApp]) -> str:
    """The route's template: a client's text would make a log that cannot be counted."""
    if (scope["method"], scope["path"]) in hot:
        return str(scope["path"])
    return getattr(scope.get("route"), "path", "unmatched")
