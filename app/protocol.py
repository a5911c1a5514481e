"""The HTTP protocol of one connection: uvicorn's, with a lane of its own for the hot endpoints.

ASGI costs several times what parsing and writing HTTP costs. A request that one of the hot endpoints answers, and that
needs nothing special, is therefore handed over as it is; every other one goes through uvicorn's cycle to the
application, where the same endpoints answer the same way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, cast

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.access import request_id_of
from app.api.hot import HotEndpoint, Lane
from app.api.wire import Call

KEEP_ALIVE_S = 75.0
"""How long a connection may be idle between two requests."""


class Exchange:
    """One request in the lane and its answer; uvicorn's protocol finds in it what it asks of a cycle of its own."""

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

    def __init__(self, protocol: PatientProtocol, endpoint: HotEndpoint, headers: dict[bytes, bytes]) -> None:
        self._protocol = protocol
        self._endpoint = endpoint
        self._headers = headers
        self.message_event = protocol.nobody_waits
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False

    def start(self, body: bytes) -> None:
        """Answer the request, now that it is whole."""
        self._task = self._protocol.loop.create_task(self._answer(body))
        self._protocol.tasks.add(self._task)

    async def _answer(self, body: bytes) -> None:
        protocol = self._protocol
        path, request_id = protocol.url.decode("ascii"), request_id_of(self._headers)
        call = Call("POST", path, b"", self._headers, _nothing_more, request_id, body)
        try:
            reply = await self._endpoint.answer(call)
            if protocol.flow.write_paused and not self.disconnected:
                await protocol.flow.drain()
            if not self.disconnected:
                protocol.transport.write(reply.render(request_id, keep_alive=self.keep_alive))
            self.response_complete = True
        finally:
            protocol.tasks.discard(self._task)
            if not (self.response_complete and self.keep_alive):
                protocol.transport.close()
        protocol.on_response_complete()


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


class PatientProtocol(HttpToolsProtocol):
    """Knows since when it has been waiting: for the rest of a request or for the first, or for the next."""

    receiving_since = math.inf
    idle_since = math.inf

    def __init__(self, *, lane: Lane, most_bytes: int, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.nobody_waits = asyncio.Event()
        self._lane = lane
        self._most_bytes = most_bytes
        self._exchange: Exchange | None = None
        self._body: list[bytes] = []

    def is_late(self, now: float, receive_timeout_s: float) -> bool:
        """Whether this connection should be ended; ``now`` is the loop's time."""
        return now - self.receiving_since > receive_timeout_s or now - self.idle_since > KEEP_ALIVE_S

    def connection_made(self, transport: Any) -> None:
        """Expect the first request."""
        super().connection_made(transport)
        self.receiving_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Expect the rest of a request from its first byte on."""
        if self.receiving_since == math.inf:
            self.receiving_since = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Expect the rest of a request that came together with the end of the one before."""
        self.receiving_since = min(self.receiving_since, self.loop.time())
        self.idle_since = math.inf
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Choose the way: the lane for a plain request to a hot endpoint, else uvicorn's cycle."""
        self._exchange = None
        endpoint = self._lane.get((self.parser.get_method(), self.url))
        if endpoint and self._is_plain(headers := dict(self.headers)):
            self._exchange = Exchange(self, endpoint, headers)
            self._body = []
            self.cycle = cast("RequestResponseCycle", self._exchange)
        else:
            url, pairs, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()  # makes the scope, which the lane can do without
            self.url, self.expect_100_continue = url, expects
            self.headers += pairs
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of a body; its length was looked at before."""
        if self._exchange:
            self._body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note that the request is here."""
        self.receiving_since = math.inf
        if self._exchange:
            self._exchange.start(self._body[0] if len(self._body) == 1 else b"".join(self._body))
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it; the server looks at all waiting connections, without timers."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # before the first request there is none
        return cycle is not None and not cycle.response_complete

    def _is_plain(self, headers: Mapping[bytes, bytes]) -> bool:
        """One request at a time, of a known and allowed length, on a connection that stays."""
        length = headers.get(b"content-length", b"")
        return (
            length.isdigit()
            and int(length) <= self._most_bytes
            and not self._is_answering
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
        )
