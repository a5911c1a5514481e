"""An endpoint of the hot path: authorised, within its deadline, every failure rendered, one line logged.

The framework is not on the way.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import structlog
from starlette.types import Receive, Scope, Send

from app.api.access import AccessLog, common_headers, request_id_of
from app.api.deadlines import Deadlines, Watch
from app.api.security import Keyring
from app.api.wire import Call, Handler, Reply, internal_error, render_error
from app.config import Scope as KeyScope
from app.errors import DeadlineExceeded, PlumblineError, Unavailable
from app.metrics import InProgress

_UNKNOWN = "whether the row was stored is unknown, repeating the same id is safe"
_LATE = f"not answered in time; {_UNKNOWN}"
_ENDING = f"the service is shutting down; {_UNKNOWN}"


@dataclass(frozen=True, slots=True)
class HotEndpoint:
    """An ASGI application around one handler."""

    handler: Handler
    keyring: Keyring
    key_scope: KeyScope
    deadlines: Deadlines
    in_progress: InProgress
    access_log: AccessLog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request over ASGI."""
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        call = Call(scope["method"], scope["path"], scope["query_string"], headers, receive, request_id)
        reply = await self.answer(call)
        await reply.send(send, common_headers(request_id))

    async def answer(self, call: Call) -> Reply:
        """The answer to one call, whatever happens."""
        watch = self.deadlines.enter()
        self.in_progress.requests += 1
        status = 0
        try:
            call.key_name = self.keyring.authorise(call.headers, self.key_scope)
            reply = await self.handler(call)
            status = reply.status
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever happens, the caller is answered
            reply = self.refuse(error, call, watch)
            status = reply.status
        finally:
            self.in_progress.requests -= 1
            self.deadlines.leave(watch)
            seconds = time.perf_counter() - call.started
            self.access_log.note(call.request_id, call.method, call.path, status, seconds, call.notes)
        return reply

    def refuse(self, error: Exception | asyncio.CancelledError, call: Call, watch: Watch) -> Reply:
        """The answer to a call that failed."""
        if isinstance(error, PlumblineError):
            return render_error(error, call.request_id)
        if isinstance(error, asyncio.CancelledError):
            refusal = DeadlineExceeded(_LATE) if watch.expired else Unavailable(_ENDING)
            return render_error(refusal, call.request_id)
        log = structlog.get_logger("api")
        log.error("unexpected_error", error_id=call.request_id, exc_info=error)
        return internal_error(call.request_id)
