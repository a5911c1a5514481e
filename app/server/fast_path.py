"""The HTTP protocol of one connection: a fast path for plain requests, uvicorn's for all others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.coalescing import Lane, RequestCoalescer
from app.api.http import Call, Reply
from app.api.middleware import request_id_of

MOST_HEADS = 256
MOST_BYTES = 2048
"""Longest head that is kept."""
END = b"\r\n\r\n"
SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"x-api-key"))
"""Headers that are not kept for longer than their request."""


class ParsedHead(NamedTuple):
    """What a head said.

    Attributes:
        size: its bytes, with the empty line behind it.
        length: the bytes of the body that follows.
    """

    endpoint: RequestCoalescer
    headers: Mapping[bytes, bytes]
    size: int
    length: int


class HeaderCache:
    """What the parser found in the heads of plain requests; the same bytes at a request's begin say the same again."""

    def __init__(self) -> None:
        self._known: dict[bytes, ParsedHead] = {}

    def find(self, data: bytes) -> ParsedHead | None:
        """The head at the begin of one whole request; None where it is unknown, or ``data`` is anything else."""
        head = self._known.get(data[: data.find(END) + len(END)])
        return head if head is not None and head.size + head.length == len(data) else None

    def keep(self, data: bytes, endpoint: RequestCoalescer, headers: Mapping[bytes, bytes], length: int) -> None:
        """Keep the head of one whole request, as ``data`` is where it ends with a body of this length."""
        size = data.find(END) + len(END)
        if size + length != len(data) or size > MOST_BYTES or not SECRET.isdisjoint(headers):
            return
        if len(self._known) >= MOST_HEADS:  # heads that are never the same, such as those with a trace
            self._known.clear()
        self._known[data[:size]] = ParsedHead(endpoint, headers, size, length)


class FastPathRequest:
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
        endpoint: RequestCoalescer,
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


KEEP_ALIVE_S = 75.0
"""How long a connection may be idle between two requests."""
MOST_HEAD_BYTES = 65536
"""How much of a request's head may come behind its first part; the parser itself would keep any amount."""


class PatientProtocol(HttpToolsProtocol):
    """Knows since when it has been waiting: for the rest of a request or for the first, or for the next."""

    receiving_since = math.inf
    idle_since = math.inf
    _head_bytes = -math.inf

    def __init__(self, *, lane: Lane, heads: HeaderCache, most_bytes: int, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._nobody_waits = asyncio.Event()
        self._lane = lane
        self._heads = heads
        self._whole = True
        self._arrived = b""
        self._most_bytes = most_bytes
        self._exchange: FastPathRequest | None = None
        self._body: list[bytes] = []

    def is_late(self, now: float, receive_timeout_s: float) -> bool:
        """Whether this connection should be ended; ``now`` is the loop's time.

        While an earlier request is answered nobody listens, and so nobody is late.
        """
        slow = now - self.receiving_since > receive_timeout_s and not self.flow.read_paused
        return slow or now - self.idle_since > KEEP_ALIVE_S

    def connection_made(self, transport: Any) -> None:
        """Expect the first request."""
        super().connection_made(transport)
        self.receiving_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Start a request whose head was read before; else expect the rest of one from its first byte on."""
        if self._whole and not self._is_answering:
            head = self._heads.find(data)
            if head is not None:
                self._start_known(head, data)
                return
            self._arrived = data
        self._whole = False
        if self.receiving_since == math.inf:
            self.receiving_since = self.loop.time()
        self._head_bytes += len(data)
        super().data_received(data)
        self._arrived = b""
        if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        """Expect the rest of a request that came together with the end of the one before."""
        self.receiving_since = min(self.receiving_since, self.loop.time())
        self.idle_since = math.inf
        self._whole = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_bytes = 0.0

    def on_headers_complete(self) -> None:
        """Choose the way: the lane for a plain request to a hot endpoint, else uvicorn's cycle."""
        self._exchange = None
        self._head_bytes = -math.inf
        endpoint = self._lane.get((self.parser.get_method(), self.url))
        if endpoint and self._is_plain(headers := dict(self.headers)):
            self._exchange = FastPathRequest(self, endpoint, headers, self._nobody_waits)
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
        self._whole = True
        if self._exchange:
            parts, self._body = self._body, []
            body = b"".join(parts)
            self._heads.keep(self._arrived, self._exchange.endpoint, self._exchange.headers, len(body))
            self._exchange.start(body)
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it; the server looks at all waiting connections, without timers."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.receiving_since < math.inf:
            self.receiving_since = self.loop.time()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()

    def _start_known(self, head: ParsedHead, data: bytes) -> None:
        """Start a whole request without the parser, which had nothing before it and will have nothing of it."""
        self.receiving_since = self.idle_since = math.inf
        exchange = FastPathRequest(self, head.endpoint, head.headers, self._nobody_waits)
        self.cycle = cast("RequestResponseCycle", exchange)
        exchange.start(data[head.size :])

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
