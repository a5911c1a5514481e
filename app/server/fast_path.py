"""The fast path: plain requests go from the socket to the endpoint, without ASGI.

ASGI costs several times what parsing and writing HTTP costs. Every other request, with its connection, is handed over
to uvicorn's protocol, where the same endpoints give the same answers.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

from uvicorn.server import ServerState

from app.api.coalescing import HotRoutes
from app.api.http import Call, Reply
from app.api.middleware import request_id_of
from app.server.http_connection import Event, HttpConnection, PlainRequest, UnreadBytes
from app.server.uvicorn_path import UvicornPath

KEEP_ALIVE_S = 75
"""How long a connection may be idle between two requests."""


@dataclass(frozen=True)
class ServerContext:
    """State that the connections of one server share.

    Attributes:
        fast: the open connections of the fast path.
        handed_over: the open connections of uvicorn's protocol.
    """

    routes: HotRoutes
    max_body_bytes: int
    fast: set[FastPathProtocol] = field(default_factory=set)
    handed_over: set[UvicornPath] = field(default_factory=set)

    @property
    def connections(self) -> list[FastPathProtocol | UvicornPath]:
        """All open connections."""
        return [*self.fast, *self.handed_over]


class FastPathProtocol(asyncio.Protocol):
    """The protocol of a new connection.

    It does the transport's work around an :class:`HttpConnection`.
    """

    loop: asyncio.AbstractEventLoop
    client: str
    _transport: asyncio.Transport

    def __init__(self, *, context: ServerContext, server_state: ServerState, **uvicorn_arguments: Any) -> None:
        self.context = context
        self.server_state = server_state
        self._uvicorn_arguments = uvicorn_arguments
        self._http = HttpConnection(context.routes, context.max_body_bytes)
        self._listening_since = math.inf
        self._has_answered = False
        self._is_reading = True
        self._is_writable = True
        self._is_half_closed = False

    def is_late(self, now: float, receive_timeout_s: float) -> bool:
        """Whether a request takes too long to arrive, or the next one to begin.

        While nobody reads the connection, because a request is answered or its reply is not taken, nobody is late.
        """
        http = self._http
        if http.is_answering or not self._is_writable:
            return False
        if not http.is_idle:
            return now - max(http.received_at, self._listening_since) > receive_timeout_s
        return now - self._listening_since > (KEEP_ALIVE_S if self._has_answered else receive_timeout_s)

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Answer what has begun, then end the connection; the server calls it when it stops."""
        self._http.is_closing = True
        if self._http.is_idle:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect the first request."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) else ""
        self.loop = asyncio.get_running_loop()
        self._listening_since = perf_counter()
        self.context.fast.add(self)
        self.server_state.connections.add(cast("Any", self))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; a reply that is under way will be for nobody."""
        del exc
        self._leave()

    def data_received(self, data: bytes) -> None:
        """Read what has arrived.

        A caller is not listened to while an earlier request of it is answered.
        """
        http = self._http
        http.receive(data, perf_counter())
        if not http.is_answering and self._is_writable:
            self._follow(http.next_event())
        elif self._is_reading:
            self._is_reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Answer a caller that has sent everything and still listens.

        A request that is not whole by now will never be.
        """
        self._is_half_closed = True
        self._http.is_closing = True
        return self._http.is_answering or not self._is_writable

    def pause_writing(self) -> None:
        """Begin no further request of a caller that does not take its replies."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Go on with a caller that has taken its replies."""
        self._is_writable = True
        if not self._http.is_answering and not self._transport.is_closing():
            self._go_on()

    def reply(self, reply: Reply, request_id: str) -> None:
        """Answer the request, and go on with the next one."""
        if self._transport.is_closing():
            return
        http = self._http
        self._transport.write(http.send(reply, request_id))
        self._has_answered = True
        if http.is_ended:
            self._transport.close()
        elif self._is_writable:
            self._go_on()

    def _go_on(self) -> None:
        """Begin the next request where it is here already, else listen to the caller again."""
        self._listening_since = perf_counter()
        event = self._http.next_event()
        if event is not None:
            self._follow(event)
        elif self._is_half_closed:
            self._transport.close()
        elif not self._is_reading:
            self._resume_reading()

    def _follow(self, event: Event | None) -> None:
        if isinstance(event, PlainRequest):
            event.endpoint.submit(FastPathRequest(self, event))
        elif event is not None:
            self._hand_over(event)

    def _hand_over(self, unread: UnreadBytes) -> None:
        """Leave the connection to uvicorn's protocol, from the first byte on that nobody has read."""
        self._leave()
        if not self._is_reading:
            self._resume_reading()
        arguments = {"server_state": self.server_state, **self._uvicorn_arguments}
        path = UvicornPath(self._transport, self.context.handed_over, arguments)
        path.take_over(unread)
        if self._http.is_closing:
            path.shutdown()

    def _leave(self) -> None:
        self.context.fast.discard(self)
        self.server_state.connections.discard(cast("Any", self))

    def _resume_reading(self) -> None:
        self._is_reading = True
        self._transport.resume_reading()


class FastPathRequest:
    """One request of the fast path: what the endpoint sees of it and of its connection."""

    __slots__ = ("_protocol", "call")

    def __init__(self, protocol: FastPathProtocol, request: PlainRequest) -> None:
        self._protocol = protocol
        headers, path = request.headers, request.endpoint.path
        self.call = Call("POST", path, b"", headers, request_id_of(headers), request.received_at, request.body)
        self.call.client = protocol.client

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of its connection."""
        return self._protocol.loop

    @property
    def open_connections(self) -> int:
        """The number of connections; each has one request under way at most."""
        return len(self._protocol.context.fast)

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks that the server waits for when it ends."""
        return self._protocol.server_state.tasks

    def reply(self, reply: Reply) -> None:
        """Answer the request."""
        self._protocol.reply(reply, self.call.request_id)

    def abandon(self) -> None:
        """End the connection without an answer."""
        self._protocol.abort()
