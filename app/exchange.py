"""One request in the lane beside ASGI, and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.access import request_id_of
from app.api.together import Together
from app.api.wire import Call, Reply


class Exchange:
    """A request for a hot endpoint; uvicorn's protocol finds in it what it asks of a cycle of its own."""

    __slots__ = (
        "_protocol",
        "call",
        "disconnected",
        "endpoint",
        "headers",
        "keep_alive",
        "message_event",
        "response_complete",
    )
    call: Call

    def __init__(
        self,
        protocol: HttpToolsProtocol,
        endpoint: Together,
        headers: Mapping[bytes, bytes],
        message_event: asyncio.Event,
    ) -> None:
        self._protocol = protocol
        self.endpoint = endpoint
        self.headers = headers
        self.message_event = message_event
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of its connection."""
        return self._protocol.loop

    @property
    def neighbours(self) -> int:
        """How many connections there are; each has one request under way at most."""
        return len(self._protocol.connections)

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """What the server waits for when it ends."""
        return self._protocol.tasks

    def start(self, body: bytes) -> None:
        """Have the request answered, now that it is whole."""
        headers, endpoint = self.headers, self.endpoint
        self.call = Call("POST", endpoint.path, b"", headers, _nothing_more, request_id_of(headers), body)
        endpoint.take(self)

    def reply(self, reply: Reply) -> None:
        """Answer the request; a caller that does not read its answers is waited for by a task."""
        if self._protocol.flow.write_paused:
            self._begin(self._reply_when_read(reply))
        else:
            self._reply(reply)

    def go_alone(self) -> None:
        """Leave the request to a task of its own."""
        self._begin(self._answer())

    def _begin(self, work: Any) -> None:
        task = self._protocol.loop.create_task(work)
        self._protocol.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._protocol.tasks.discard(task)
        if not self.response_complete:
            self._protocol.transport.close()

    async def _answer(self) -> None:
        reply = await self.endpoint.endpoint.answer(self.call)
        await self._reply_when_read(reply)

    async def _reply_when_read(self, reply: Reply) -> None:
        if self._protocol.flow.write_paused:
            await self._protocol.flow.drain()
        self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        protocol = self._protocol
        if not protocol.transport.is_closing():  # uvicorn tells only the latest request that its caller has left
            protocol.transport.write(reply.render(self.call.request_id, keep_alive=self.keep_alive))
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}
