"""One request in the lane beside ASGI, and its answer."""

from __future__ import annotations

import asyncio

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.access import request_id_of
from app.api.hot import HotEndpoint
from app.api.wire import Call


class Exchange:
    """A request that a hot endpoint answers; uvicorn's protocol finds in it what it asks of a cycle of its own."""

    __slots__ = (
        "_endpoint",
        "_headers",
        "_protocol",
        "_task",
        "disconnected",
        "keep_alive",
        "message_event",
        "response_complete",
    )

    def __init__(
        self,
        protocol: HttpToolsProtocol,
        endpoint: HotEndpoint,
        headers: dict[bytes, bytes],
        message_event: asyncio.Event,
    ) -> None:
        self._protocol = protocol
        self._endpoint = endpoint
        self._headers = headers
        self.message_event = message_event
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    def start(self, body: bytes) -> None:
        """Answer the request, now that it is whole; what the protocol knows of it is gone with the next request."""
        protocol, headers = self._protocol, self._headers
        path = protocol.url.decode("ascii")
        call = Call("POST", path, b"", headers, _nothing_more, request_id_of(headers), body)
        self._task = protocol.loop.create_task(self._answer(call))
        protocol.tasks.add(self._task)

    async def _answer(self, call: Call) -> None:
        protocol = self._protocol
        try:
            reply = await self._endpoint.answer(call)
            if protocol.flow.write_paused:
                await protocol.flow.drain()
            if not protocol.transport.is_closing():  # uvicorn tells only the latest request that its caller has left
                protocol.transport.write(reply.render(call.request_id, keep_alive=self.keep_alive))
            self.response_complete = True
        finally:
            protocol.tasks.discard(self._task)
            if not (self.response_complete and self.keep_alive):
                protocol.transport.close()
        protocol.on_response_complete()


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}
