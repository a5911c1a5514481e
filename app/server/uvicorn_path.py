"""uvicorn's protocol for connections that the fast path hands over.

A watch notes what they receive.

uvicorn has no deadline for a request that does not come to its end and no limit for a head, and it does not say when a
request began. The watch reads the same bytes with the same parser, once more, and adds these three.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.http import FIRST_BYTES
from app.server.http_connection import MAX_HEAD_BYTES, UnreadBytes

HEAD_TOO_LARGE = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 37\r\n"
    b"connection: close\r\n\r\nThe head of the request is too large."
)


class UvicornPath(asyncio.Protocol):
    """The protocol of a connection once it is handed over.

    All that happens is passed on to uvicorn's protocol.
    """

    def __init__(
        self, transport: asyncio.Transport, handed_over: set[UvicornPath], uvicorn_arguments: Mapping[str, Any]
    ) -> None:
        self._transport = transport
        self._handed_over = handed_over
        self._watch = RequestWatch()
        state = {**uvicorn_arguments["app_state"], FIRST_BYTES: self._watch.first_bytes}
        self._uvicorn = HttpToolsProtocol(**{**uvicorn_arguments, "app_state": state})

    def take_over(self, unread: UnreadBytes) -> None:
        """Serve the connection from these bytes on, which arrived before."""
        self._handed_over.add(self)
        self._transport.set_protocol(self)
        self._uvicorn.connection_made(self._transport)
        self._receive(unread.data, unread.received_at)

    def is_late(self, now: float, receive_timeout_s: float) -> bool:
        """Whether a request takes too long to arrive.

        The time in which nobody reads the connection does not count.
        """
        if not self._transport.is_reading():
            self._watch.restart(now)
        return now - self._watch.receiving_since > receive_timeout_s

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Answer what has begun, then end the connection."""
        self._uvicorn.shutdown()

    def data_received(self, data: bytes) -> None:
        """Watch and pass on what has arrived."""
        self._receive(data, perf_counter())

    def eof_received(self) -> bool:
        """Answer a caller that has sent everything and still listens.

        A request that is not whole by now will never be.
        """
        if self._watch.receiving_since < math.inf:
            return False
        self._uvicorn.shutdown()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the connection has ended."""
        self._handed_over.discard(self)
        self._uvicorn.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the caller does not read its answers."""
        self._uvicorn.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the caller reads again."""
        self._uvicorn.resume_writing()

    def _receive(self, data: bytes, now: float) -> None:
        self._watch.receive(data, now)
        self._uvicorn.data_received(data)
        if self._watch.head_bytes > MAX_HEAD_BYTES and not self._transport.is_closing():
            self._transport.write(HEAD_TOO_LARGE)
            self._transport.close()


class RequestWatch:
    """Follows the requests in the bytes of a connection, without their content.

    Attributes:
        first_bytes: when each request began that the application has not seen yet; the application takes the first one.
        receiving_since: when the request began that is not whole yet; infinity where there is none.
        head_bytes: the size of the head that is not whole yet; -infinity where there is none. Behind another request in
            one packet its first piece does not count.
    """

    def __init__(self) -> None:
        self.first_bytes: deque[float] = deque()
        self.receiving_since = math.inf
        self.head_bytes: float = -math.inf
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self._now = 0.0
        self._begun_bytes = 0

    def receive(self, data: bytes, now: float) -> None:
        """Follow these bytes, which arrived at this time."""
        self._now = now
        self._begun_bytes = len(data) if self.receiving_since == math.inf else 0
        self.head_bytes += len(data)
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # uvicorn knows no upgrade that is meant here, and reads on as well
        except HttpParserError:
            self._parser = None  # uvicorn answers 400 and ends the connection
            self.receiving_since, self.head_bytes = math.inf, -math.inf

    def restart(self, now: float) -> None:
        """Count the time for the rest of a request from now on."""
        if self.receiving_since < math.inf:
            self.receiving_since = now

    def on_message_begin(self) -> None:
        """Note that a request begins."""
        self.first_bytes.append(self._now)
        self.receiving_since = self._now
        self.head_bytes, self._begun_bytes = self._begun_bytes, 0

    def on_headers_complete(self) -> None:
        """Note that a head is whole."""
        self.head_bytes = -math.inf

    def on_message_complete(self) -> None:
        """Note that a request is whole."""
        self.receiving_since = math.inf
