"""An endpoint of the hot path: authorised, within its deadline, and every failure rendered.

The framework is not on the way.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from starlette.types import Receive, Scope, Send

from app.api.security import Keyring
from app.api.wire import Call, Handler, internal_error, render_error
from app.config import Scope as KeyScope
from app.errors import PlumblineError

_LOG = "api"


@dataclass(frozen=True)
class HotEndpoint:
    """An ASGI application around one handler."""

    handler: Handler
    keyring: Keyring
    key_scope: KeyScope
    deadline_s: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = Call(scope, receive, scope["plumbline.request_id"], dict(scope["headers"]))
        try:
            call.key_name = self.keyring.authorise(call.headers, self.key_scope)
            async with asyncio.timeout(self.deadline_s):
                reply = await self.handler(call)
        except (PlumblineError, TimeoutError) as error:
            reply = render_error(error, call.request_id)
        except Exception as error:  # noqa: BLE001 - the last resort; it is logged, and answered with its id
            structlog.get_logger(_LOG).exception("unexpected_error", error_id=call.request_id, exc_info=error)
            reply = internal_error(call.request_id)
        if call.notes:
            scope["plumbline.notes"] = call.notes
        await reply.send(send)
