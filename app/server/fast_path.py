"""The connections of the server, and the fast path from the socket to the endpoint.

Plain requests take it: ASGI costs several times what parsing and writing HTTP costs. Every other request goes to the
application over ASGI, where the same endpoints give the same answers; one parser reads both.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any, cast

from uvicorn.server import ServerState

from app.api.http import Call, Reply, SlowBody, render_error
from app.api.middleware import request_id_of
from app.errors import RequestError, Unavailable
from app.server.asgi_path import AsgiRequest
from app.server.http_connection import (
    BadRequest,
    Event,
    HttpConnection,
    OtherRequest,
    PartialRequest,
    PlainRequest,
)
from app.server.server import ServerContext
from app.types import new_id

KEEP_ALIVE_S = 75
"""How long a connection may be idle between two requests."""
LINGER_S = 2.0
"""How long a connection that ends with a refusal waits for the peer to take it."""
MAX_LINGER_BYTES = 2**18
"""What is read of a peer that goes on sending meanwhile, and dropped."""
FREE_BYTES = 8192
"""Unread bytes of each connection that are not counted."""


class FastPathProtocol(asyncio.Protocol):
    """The protocol of a connection.

    It does the transport's work around an :class:`HttpConnection`.

    Attributes:
        client: the address of the peer.
        is_gone: the connection has ended.
        is_writable: the peer takes what is sent to it.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def __init__(
        self, *, context: ServerContext, server_state: ServerState, app_state: Mapping[str, Any], **_uvicorns: Any
    ) -> None:
        self.context = context
        self.server_state = server_state
        self.http = HttpConnection(context.routes, context.max_body_bytes)
        self.client = ""
        self.is_gone = False
        self.is_writable = True
        self._state = dict(app_state)
        self._asgi: AsgiRequest | None = None
        self._partial: FastPathRequest | None = None
        self._listening_since = math.inf
        self._has_answered = False
        self._is_reading = True
        self._is_half_closed = False
        self._is_going_on = False
        self._lingering_since = math.inf
        self._lingering_bytes = 0
        self._unsent_bytes = 0
        self._taken_at = math.inf
        self._body_bytes = 0
        self._unread_bytes = 0

    @property
    def is_idle(self) -> bool:
        """Whether the connection could end without a loss to anybody."""
        return self._lingering_since < math.inf or self.http.is_idle

    @property
    def is_answering(self) -> bool:
        """Whether a whole request waits for its answer."""
        is_starved = self._asgi is not None and self._asgi.is_starved
        return self.http.is_answering and self._lingering_since == math.inf and not is_starved

    @property
    def quiet_since(self) -> float:
        """The time of the last answer, or of the beginning."""
        return self._listening_since

    def is_late(self, now: float, receive_timeout_s: float) -> bool:
        """Whether the peer takes too long.

        It has a time to send a request, to begin the next one, and to take its answer.

        While nobody reads the connection, because a request is answered, nobody is late.
        """
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            return self._is_stuck(unsent, now, receive_timeout_s)
        self._unsent_bytes, self._taken_at = 0, now
        if self._lingering_since < math.inf:
            return now - self._lingering_since > LINGER_S
        http = self.http
        if http.is_answering or not self.is_writable:
            return False
        if not http.is_idle:
            return now - max(http.received_at, self._listening_since) > receive_timeout_s
        return now - self._listening_since > (KEEP_ALIVE_S if self._has_answered else receive_timeout_s)

    def _is_stuck(self, unsent: int, now: float, receive_timeout_s: float) -> bool:
        """Whether the peer has taken nothing for too long."""
        if unsent != self._unsent_bytes:
            self._unsent_bytes, self._taken_at = unsent, now
        return now - self._taken_at > receive_timeout_s

    def end_late(self) -> None:
        """Tell a peer that its request is late; end the connection at once where it has sent none."""
        http = self.http
        if self.is_idle or http.is_answering or self._unsent_bytes:
            self.abort()
        else:
            self._fail(SlowBody("the request did not arrive in time"))

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def shutdown(self) -> None:
        """Answer what has begun, then end the connection; the server calls it when it stops."""
        self.http.is_closing = True
        if self.is_idle:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect the first request, where there is room for one more connection."""
        self.transport = cast("asyncio.Transport", transport)
        self.loop = asyncio.get_running_loop()
        self._listening_since = self._taken_at = perf_counter()
        self.server_state.connections.add(cast("Any", self))
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) else ""
        if self.context.admit(self, self._descriptor()):
            return
        if not self.context.is_refusal_heard(self):
            self.abort()
            return
        self._fail(Unavailable("too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; a reply that is under way will be for nobody."""
        del exc
        self.is_gone = True
        self.server_state.connections.discard(cast("Any", self))
        self._release()
        self.context.heads.release(self._unread_bytes)
        self._unread_bytes = 0
        self.context.leave(self)
        if self._asgi is not None:
            self._asgi.wake()

    def data_received(self, data: bytes) -> None:
        """Read what has arrived.

        A caller is not listened to while an earlier request of it is answered.
        """
        if self._lingering_since < math.inf:
            self._discard(data)
            return
        http = self.http
        http.receive(data, perf_counter())
        if not http.is_answering and self.is_writable:
            self._follow(http.next_event())
        elif http.unread_bytes:
            self._pause_reading()
            if self._asgi is not None:
                self._asgi.wake()
        if http.unread_bytes > FREE_BYTES or self._unread_bytes:
            self._count_unread()

    def eof_received(self) -> bool:
        """Answer a caller that has sent everything and still listens.

        A request that is not whole by now will never be.
        """
        self._is_half_closed = True
        self.http.is_closing = True
        if self._lingering_since < math.inf or (self._asgi is not None and self._asgi.is_starved):
            return False
        return self.http.is_answering or not self.is_writable

    def pause_writing(self) -> None:
        """Begin no further request of a caller that does not take its replies."""
        self.is_writable = False

    def resume_writing(self) -> None:
        """Go on with a caller that has taken its replies."""
        self.is_writable = True
        if self._asgi is not None:
            self._asgi.wake()
        elif not self.http.is_answering and not self.transport.is_closing():
            self._go_on()

    def reply(self, reply: Reply, request_id: str) -> None:
        """Answer the request, and go on with the next one."""
        if self.transport.is_closing():
            return
        self.transport.write(self.http.send(reply, request_id))
        self._end_request(closes=self.http.is_ended)

    def finish(self, *, closes: bool) -> None:
        """Go on behind a request over ASGI."""
        self._asgi = None
        self.http.is_answering = False
        if not self.transport.is_closing():
            self._end_request(closes=closes)

    def hold(self, body_bytes: int) -> bool:
        """Count more bytes of a body that is not whole; False where there is no room."""
        if not self.context.bodies.take(body_bytes, self._body_bytes + body_bytes):
            return False
        self._body_bytes += body_bytes
        return True

    def listen(self) -> None:
        """Read on."""
        if not self._is_reading and not self.transport.is_closing():
            self._is_reading = True
            self.transport.resume_reading()

    def _end_request(self, *, closes: bool) -> None:
        self._has_answered = True
        if self._body_bytes:
            self._release()
        if closes and (self.http.is_cut or self.http.unread_bytes):
            self._linger()
        elif closes:
            self.transport.close()
        elif self.is_writable:
            self._go_on()

    def _go_on(self) -> None:
        """Begin the next request where it is here already, else listen to the caller again."""
        self._listening_since = perf_counter()
        if self._is_going_on or self._lingering_since < math.inf:  # _begin_unread has called; or nothing goes on
            return
        if self.http.unread_bytes:
            self._begin_unread()
            if self.http.is_answering or not self.is_writable or self.transport.is_closing():
                return
        if self._is_half_closed:
            self.transport.close()
        else:
            self.listen()

    def _begin_unread(self) -> None:
        """Begin the requests that are here, one behind the other."""
        http = self.http
        self._is_going_on = True
        try:
            while not http.is_answering and self.is_writable and (event := http.next_event()):
                self._follow(event)
        finally:
            self._is_going_on = False
        if self._unread_bytes:
            self._count_unread()

    def _follow(self, event: Event | None) -> None:
        if isinstance(event, PlainRequest):
            request, self._partial = self._partial or FastPathRequest(self, event), None
            request.call.body = event.body
            self.context.fast.add(self)
            event.endpoint.submit(request)
        elif isinstance(event, PartialRequest):
            self._begin_body(event)
        elif isinstance(event, OtherRequest):
            self._begin_asgi(event)
        elif isinstance(event, BadRequest):
            self._fail(RequestError(event.detail))

    def _begin_body(self, event: PartialRequest) -> None:
        """Let the body come, where the caller may ask and there is room for it."""
        request = FastPathRequest(self, event)
        reply = event.endpoint.refuse_head(request.call)
        if reply is None and not self.hold(event.body_bytes):
            reply = event.endpoint.refuse(request.call, Unavailable("too many bodies are on their way"))
        if reply is None:
            self._partial = request
            return
        self.http.pass_over(event.body_bytes)
        self.reply(reply, request.call.request_id)

    def _begin_asgi(self, event: OtherRequest) -> None:
        self.context.fast.discard(self)
        self._asgi = AsgiRequest(self, event, self._state)
        tasks = self.server_state.tasks
        task = self.loop.create_task(self._asgi.run(self.context.app))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _fail(self, error: RequestError) -> None:
        """Refuse what the peer has sent, and read nothing more."""
        request, self._partial = self._partial, None
        self.http.drop_all()
        if request is None:
            request_id = new_id()
            reply = render_error(error, request_id)
        else:
            request_id = request.call.request_id
            reply = request.endpoint.refuse(request.call, error)
        self.reply(reply, request_id)

    def _linger(self) -> None:
        """End our side, and drop what still comes.

        A connection that is closed at once takes its last answer along.
        """
        self._lingering_since = perf_counter()
        self.http.drop_all()
        self.context.fast.discard(self)
        if self._is_half_closed:
            self.transport.close()
            return
        self.transport.write_eof()
        self.listen()

    def _discard(self, data: bytes) -> None:
        self._lingering_bytes += len(data)
        if self._lingering_bytes > MAX_LINGER_BYTES:
            self._pause_reading()

    def _count_unread(self) -> None:
        """Count the unread bytes beyond a usual request; without room, end the connection."""
        size = 0 if self._body_bytes else self.http.unread_bytes
        size = size if size > FREE_BYTES else 0
        grown = size - self._unread_bytes
        if grown <= 0:
            self.context.heads.release(-grown)
        elif not self.context.heads.take(grown, size):
            if self.http.is_answering:
                self.abort()
            else:
                self._fail(Unavailable("too many requests are on their way"))
            return
        self._unread_bytes = size

    def _release(self) -> None:
        self.context.bodies.release(self._body_bytes)
        self._body_bytes = 0

    def _descriptor(self) -> int:
        """The number of the socket: a new one gets the lowest that is free."""
        sock = self.transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def _pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self.transport.pause_reading()


class FastPathRequest:
    """One request of the fast path: what the endpoint sees of it and of its connection."""

    __slots__ = ("_protocol", "call", "endpoint")

    def __init__(self, protocol: FastPathProtocol, event: PlainRequest | PartialRequest) -> None:
        self._protocol = protocol
        self.endpoint, headers = event.endpoint, event.headers
        request_id = request_id_of(headers)
        self.call = Call("POST", self.endpoint.path, b"", headers, request_id, event.received_at, b"", protocol.client)

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
