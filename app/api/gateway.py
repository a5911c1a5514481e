"""The layer around the framework: request ids, headers, the access log, and the last resort."""

from __future__ import annotations

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.access import AccessLog, common_headers, request_id_of
from app.api.wire import internal_error
from app.metrics import InProgress


class Gateway:
    """ASGI middleware around the framework's whole stack; the hot routes do the same for themselves, at less cost."""

    def __init__(self, app: ASGIApp, in_progress: InProgress, access_log: AccessLog) -> None:
        self._app = app
        self._in_progress = in_progress
        self._access_log = access_log
        self._log = structlog.get_logger("gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that goes wrong inside leaves as anything but an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_of(dict(scope["headers"]))
        scope["plumbline.request_id"] = request_id
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *common_headers(request_id)]
            await send(message)

        self._in_progress.requests += 1
        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - the last resort; it is logged, and answered with its id
            self._log.exception("unexpected_error", error_id=request_id, exc_info=error)
            if not status:
                await internal_error(request_id).send(sending)
        finally:
            self._in_progress.requests -= 1
            # The route's template: a client's text would make a log that cannot be counted.
            route = getattr(scope.get("route"), "path", "unmatched")
            self._access_log.note(request_id, scope["method"], route, status, time.perf_counter() - started)
