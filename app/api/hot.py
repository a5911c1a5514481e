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
from app.api.deadlines import Deadlines
from app.api.security import Keyring
from app.api.wire import Call, Handler, Reply, internal_error, render_error
from app.config import Scope as KeyScope
from app.errors import DeadlineExceeded, PlumblineError
from app.metrics import InProgress


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
        """Answer one request."""
        started = time.perf_counter()
        headers = dict(scope["headers"])
        call = Call(scope, receive, request_id_of(headers), headers)
        self.in_progress.requests += 1
        status = 0
        try:
            reply = await self._answer(call)
            status = reply.status
            await reply.send(send, common_headers(call.request_id))
        finally:
            self.in_progress.requests -= 1
            seconds = time.perf_counter() - started
            self.access_log.note(call.request_id, scope["method"], scope["path"], status, seconds, call.notes)

    async def _answer(self, call: Call) -> Reply:
        watch = self.deadlines.enter()
        try:
            call.key_name = self.keyring.authorise(call.headers, self.key_scope)
            return await self.handler(call)
        except PlumblineError as error:
            return render_error(error, call.request_id)
        except asyncio.CancelledError:
            if not watch.expired:
                raise
            return render_error(
                DeadlineExceeded(
                    "not answered in time; whether the row was stored is unknown, repeating the same id is safe"
                ),
                call.request_id,
            )
        except Exception as error:
            log = structlog.get_logger("api")
            log.exception("unexpected_error", error_id=call.request_id, exc_info=error)
            return internal_error(call.request_id)
        finally:
            self.deadlines.leave(watch)
