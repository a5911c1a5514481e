"""HTTP/1.1 of one connection without I/O: bytes become requests, replies become bytes.

It reads plain requests for hot endpoints only. It gives everything else back as it came, so that uvicorn reads it from
its first byte on. No socket, clock or event loop is needed here, which lets tests try any bytes in any pieces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from app.api.coalescing import HotRoutes, RequestCoalescer
from app.api.http import Reply
from app.server.request_head import HeaderCache, HeadParser, ParsedHead, body_length

MAX_HEAD_BYTES = 65536
HEAD_END = b"\r\n\r\n"


class PlainRequest(NamedTuple):
    """A whole request for a hot endpoint; ``received_at`` is the time of its first byte."""

    endpoint: RequestCoalescer
    headers: Mapping[bytes, bytes]
    body: bytes
    received_at: float


class UnreadBytes(NamedTuple):
    """All bytes of a connection from the first byte of a request on that is not a plain one."""

    data: bytes
    received_at: float


Event: TypeAlias = PlainRequest | UnreadBytes


class HttpConnection:
    """The state of one connection: it receives a request, or the request is answered, or it is handed over.

    Requests are read one at a time: what arrives behind a request stays unread until that one is answered.

    Attributes:
        received_at: when the first byte of the unread bytes came; infinity where there are none.
        is_answering: whether a request waits for its reply.
        is_closing: whether the connection ends once everything that has arrived is answered.
    """

    __slots__ = (
        "_arrived_at",
        "_cache",
        "_head",
        "_max_body_bytes",
        "_parser",
        "_routes",
        "_unread",
        "is_answering",
        "is_closing",
        "received_at",
    )

    def __init__(self, routes: HotRoutes, max_body_bytes: int) -> None:
        self._routes = routes
        self._max_body_bytes = max_body_bytes
        self._unread: bytes | bytearray = b""
        self._arrived_at = math.inf
        self._parser: HeadParser | None = None
        self._head: ParsedHead | None = None
        self._cache = HeaderCache(max_body_bytes)
        self.received_at = math.inf
        self.is_answering = False
        self.is_closing = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing has arrived that is not answered yet."""
        return not (self.is_answering or self._unread)

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes that have arrived at this time; :meth:`next_event` says what is in them."""
        if not self._unread:
            self._unread, self.received_at = data, now
        elif isinstance(self._unread, bytearray):
            self._unread += data
        else:
            self._unread = bytearray(self._unread + data)  # grows in place, so that many small pieces cost no more
        self._arrived_at = now

    def next_event(self) -> Event | None:
        """The next request where it is whole, or the bytes to hand over; None where more bytes or a reply must come."""
        if self.is_answering or not self._unread:
            return None
        head = self._head or self._find_head()
        if head is None:
            return None if self._parser else self._give_back()
        start = head.size
        end = start + head.body_bytes
        unread = self._unread
        if len(unread) < end:
            self._head = head
            return None
        request = PlainRequest(head.endpoint, head.headers, bytes(unread[start:end]), self.received_at)
        self._head = None
        self._unread = unread[end:]
        self.received_at = self._arrived_at if self._unread else math.inf
        self.is_answering = True
        return request

    def send(self, reply: Reply, request_id: str) -> bytes:
        """The bytes of the reply to the request; the connection goes on with the next one unless this is the last."""
        self.is_answering = False
        return reply.render(request_id, keep_alive=not self.is_ended)

    @property
    def is_ended(self) -> bool:
        """Whether everything is answered on a connection that should end then."""
        return self.is_closing and self.is_idle

    def _give_back(self) -> UnreadBytes:
        data, self._unread = bytes(self._unread), b""
        return UnreadBytes(data, self.received_at)

    def _find_head(self) -> ParsedHead | None:
        """The head of the unread bytes; None if it is not plain, or while ``_parser`` waits for its rest."""
        unread = self._unread
        parser = self._parser
        if parser is None:
            known = self._cache.find(unread) if isinstance(unread, bytes) else None
            if known is not None:
                return known
            parser = HeadParser()
        end = unread.find(HEAD_END, max(0, parser.read_bytes - len(HEAD_END) + 1), MAX_HEAD_BYTES)
        is_whole = end >= 0
        stop = end + len(HEAD_END) if is_whole else len(unread)
        parser.feed(unread[parser.read_bytes : stop])
        if not is_whole and not parser.is_odd and stop < MAX_HEAD_BYTES:
            self._parser = parser
            return None
        self._parser = None
        return self._plain_head(parser, bytes(unread[:stop])) if is_whole else None

    def _plain_head(self, parser: HeadParser, raw: bytes) -> ParsedHead | None:
        """A head for a hot endpoint with a body of a known and allowed length, on a connection that stays."""
        endpoint = self._routes.get((parser.method, parser.target))
        length = body_length(parser.headers, self._max_body_bytes)
        if endpoint is None or not length or parser.is_odd or not parser.is_persistent:
            return None
        head = ParsedHead(len(raw), endpoint, parser.headers, length)
        self._cache.keep(raw, head)
        return head
