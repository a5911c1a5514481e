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

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.together import Lane
from app.exchange import Exchange
from app.heads import Head, Heads

KEEP_ALIVE_S = 75.0
"""How long a connection may be idle between two requests."""
MOST_HEAD_BYTES = 65536
"""How much of a request's head may come behind its first part; the parser itself would keep any amount."""


class PatientProtocol(HttpToolsProtocol):
    """Knows since when it has been waiting: for the rest of a request or for the first, or for the next."""

    receiving_since = math.inf
    idle_since = math.inf
    _head_bytes = -math.inf

    def __init__(self, *, lane: Lane, heads: Heads, most_bytes: int, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._nobody_waits = asyncio.Event()
        self._lane = lane
        self._heads = heads
        self._whole = True
        self._arrived = b""
        self._most_bytes = most_bytes
        self._exchange: Exchange | None = None
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
            self._exchange = Exchange(self, endpoint, headers, self._nobody_waits)
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

    def _start_known(self, head: Head, data: bytes) -> None:
        """Start a whole request without the parser, which had nothing before it and will have nothing of it."""
        self.receiving_since = self.idle_since = math.inf
        exchange = Exchange(self, head.endpoint, head.headers, self._nobody_waits)
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
