"""HTTP/1.1 of one connection without I/O: bytes become requests, replies become bytes.

No socket, clock or event loop is needed here, which lets tests try any bytes in any pieces.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, cast

from msgspec import Struct

from app.api.coalescing import HotEndpoint, HotRoutes
from app.api.http import BrokenBody, Reply
from app.server.http_head import (
    FIELD,
    MAX_HEAD_BYTES,
    REQUEST_LINE,
    BadHead,
    HeaderCache,
    ParsedHead,
    RequestHead,
    body_length,
    parse_head,
)

MAX_SKIP_BYTES = 65536
"""Longest body that is passed over where nobody wants it; behind a longer one the connection ends."""
HEAD_END = b"\r\n\r\n"
SLICE_BYTES = 16384
"""Bytes of a body in chunks that are read in one go: tiny chunks must not hold the event loop up."""
MAX_CHUNK_LINE_BYTES = 8192
"""Longest line between two chunks and among the trailers."""
_TOO_LONG = "the trailers of the request are too large"
_NO_TEXT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})([ \t]*;[\t -~\x80-\xff]*)?\r\n")


class PlainRequest(Struct, frozen=True, gc=False):
    """A whole request for a hot endpoint; ``received_at`` is the time of its first byte."""

    endpoint: HotEndpoint
    headers: Mapping[bytes, bytes]
    body: bytes
    received_at: float


class PartialRequest(NamedTuple):
    """A request for a hot endpoint whose body is not whole yet.

    It comes once: :meth:`HttpConnection.pass_over` refuses it, else it comes again, as a :class:`PlainRequest`.
    """

    endpoint: HotEndpoint
    headers: Mapping[bytes, bytes]
    received_at: float
    body_bytes: int


class OtherRequest(NamedTuple):
    """The head of a request that is no plain one; the unread bytes begin with its body."""

    head: RequestHead
    received_at: float


class BadRequest(NamedTuple):
    """Bytes that are no request; nothing behind them is read."""

    detail: str


Event: TypeAlias = PlainRequest | PartialRequest | OtherRequest | BadRequest


class HttpConnection:
    """The state of one connection.

    Requests are read one at a time: what arrives behind a request stays unread until that one is answered.

    Attributes:
        received_at: when the first byte of the unread bytes came; infinity where there are none.
        is_answering: whether a request waits for its reply.
        is_closing: whether the connection ends once everything that has arrived is answered.
        is_cut: whether it ends although the caller may still send: nothing more is read.
    """

    __slots__ = (
        "_arrived_at",
        "_cache",
        "_checked",
        "_empty_bytes",
        "_head",
        "_max_body_bytes",
        "_routes",
        "_skip",
        "_unread",
        "is_answering",
        "is_closing",
        "is_cut",
        "received_at",
    )

    def __init__(self, routes: HotRoutes, max_body_bytes: int) -> None:
        self._routes = routes
        self._max_body_bytes = max_body_bytes
        self._unread: bytes | bytearray = b""
        self._arrived_at = math.inf
        self._checked = 0
        self._empty_bytes = 0
        self._skip = 0
        self._head: ParsedHead | None = None
        self._cache = HeaderCache(max_body_bytes)
        self.received_at = math.inf
        self.is_answering = False
        self.is_closing = False
        self.is_cut = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing has arrived that is not answered yet."""
        return not (self.is_answering or self._unread)

    @property
    def unread_bytes(self) -> int:
        """The number of bytes that wait."""
        return len(self._unread)

    @property
    def is_ended(self) -> bool:
        """Whether everything is answered on a connection that should end then."""
        return self.is_closing and self.is_idle

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes that have arrived at this time; :meth:`next_event` says what is in them."""
        if self._skip:
            size = min(self._skip, len(data))
            self._skip -= size
            data = data[size:]
        if not self._unread:
            self._unread = data
            self.received_at = now if data else math.inf
        elif isinstance(self._unread, bytearray):
            self._unread += data
        else:
            self._unread = bytearray(self._unread + data)  # grows in place, so that many small pieces cost no more
        self._arrived_at = now

    def next_event(self) -> Event | None:
        """The next request, or what is wrong with it.

        None: more bytes or a reply must come first.
        """
        if self.is_answering or not self._unread:
            return None
        head = self._head
        if head is None:
            found = self._find_head()
            if not isinstance(found, ParsedHead):
                return found
            head = found
        start, end = head.size, head.size + head.body_bytes
        unread = self._unread
        if len(unread) < end:
            if self._head is head:
                return None
            self._head = head
            return PartialRequest(head.endpoint, head.headers, self.received_at, head.body_bytes)
        body = self._take_body(unread, start, end) if isinstance(unread, bytearray) else unread[start:end]
        request = PlainRequest(head.endpoint, head.headers, body, self.received_at)
        self._head = None
        self._drop(end)
        self.is_answering = True
        return request

    def _take_body(self, unread: bytearray, start: int, end: int) -> bytes:
        """The body in a buffer that has grown; one with nothing behind it is not copied."""
        if end < len(unread):
            return bytes(memoryview(unread)[start:end])
        del unread[:start]
        self._unread = b""
        return cast("bytes", unread)

    def send(self, reply: Reply, request_id: str) -> bytes:
        """The bytes of the reply to the request.

        The connection goes on with the next request unless this is the last.
        """
        self.is_answering = False
        return reply.render(request_id, keep_alive=not self.is_ended)

    def take(self) -> bytes:
        """All unread bytes, for whoever reads the body of the request that is answered."""
        data, self._unread = bytes(self._unread), b""
        return data

    def give_back(self, data: bytes) -> None:
        """Put bytes back that do not belong to the body any more, or not yet."""
        self._unread = data
        self.received_at = self._arrived_at if data else math.inf

    def pass_over(self, body_bytes: int | None) -> None:
        """Answer the request without so many bytes of its body; None: nobody knows how many.

        A short rest is dropped when it comes. Behind a long one the connection ends: nothing more is read.
        """
        if self._head is not None:
            self._drop(self._head.size)
            self._head = None
        self.is_answering = True
        if body_bytes is None or body_bytes > MAX_SKIP_BYTES:
            self.drop_all()
            return
        here = min(body_bytes, len(self._unread))
        self._drop(here)
        self._skip = body_bytes - here

    def drop_all(self) -> None:
        """Read nothing more; the connection ends with the next reply."""
        self.give_back(b"")
        self._head = None
        self.is_closing = self.is_cut = True

    def _drop(self, size: int) -> None:
        """Let go of the first unread bytes."""
        self._unread = self._unread[size:]
        self._checked = self._empty_bytes = 0
        self.received_at = self._arrived_at if self._unread else math.inf

    def _find_head(self) -> ParsedHead | OtherRequest | BadRequest | None:
        """The head of the unread bytes; None where it is not whole."""
        unread = self._unread
        known = self._cache.find(unread) if isinstance(unread, bytes) else None
        if known is not None:
            return known
        end = unread.find(HEAD_END, max(0, self._checked - len(HEAD_END)), MAX_HEAD_BYTES)
        try:
            if unread.startswith(b"\r\n"):
                return self._pass_empty_lines()
            if end < 0:
                self._check_lines()
                return None
            head = parse_head(bytes(unread[: end + len(HEAD_END)]))
        except BadHead as error:
            self.is_answering = True
            self.drop_all()
            return BadRequest(str(error))
        return self._plain_head(head) or self._other_request(head)

    def _pass_empty_lines(self) -> ParsedHead | OtherRequest | BadRequest | None:
        """Drop empty lines before a head, as HTTP asks; they count as if they were of it."""
        found = _EMPTY_LINES.match(self._unread)
        size = found.end() if found else 0
        before = self._empty_bytes + size
        self._drop(size)
        self._empty_bytes = before
        if before > MAX_HEAD_BYTES:
            raise BadHead("the head of the request is too large")
        return self._find_head() if self._unread else None

    def _check_lines(self) -> None:
        """Refuse a head that is not whole as soon as a line of it is wrong, or it is too long."""
        unread = self._unread
        if _NO_TEXT.search(unread, self._checked, MAX_HEAD_BYTES):
            raise BadHead("this is no valid HTTP request")
        start = unread.rfind(b"\n", 0, self._checked) + 1
        while (end := unread.find(b"\n", start, MAX_HEAD_BYTES) + 1) > 0:
            line = FIELD if start else REQUEST_LINE
            if not line.fullmatch(unread, start, end):
                raise BadHead("this is no valid HTTP request")
            start = end
        if len(unread) >= MAX_HEAD_BYTES:
            raise BadHead("the head of the request is too large")
        self._checked = len(unread)

    def _plain_head(self, head: RequestHead) -> ParsedHead | None:
        """A head for a hot endpoint, on a connection that stays.

        Its body has a known and allowed length.
        """
        endpoint = self._routes.get((head.method, head.target))
        length = body_length(head.headers, self._max_body_bytes)
        if endpoint is None or not length or not head.is_persistent:
            return None
        plain = ParsedHead(head.size, endpoint, head.headers, length)
        self._cache.keep(bytes(self._unread[: head.size]), plain)
        return plain

    def _other_request(self, head: RequestHead) -> OtherRequest:
        request = OtherRequest(head, self.received_at)
        self._drop(head.size)
        self.is_answering = True
        return request


class SizedBody:
    """A body whose length its head names."""

    def __init__(self, size: int) -> None:
        self.missing = size

    @property
    def is_whole(self) -> bool:
        """Whether nothing more belongs to it."""
        return not self.missing

    def read(self, data: bytes) -> tuple[bytes, bytes]:
        """The part of the body at the start of these bytes, and the bytes that are not read yet."""
        part = data[: self.missing]
        self.missing -= len(part)
        return part, data[len(part) :]


class ChunkedBody:
    """A body in chunks.

    Its trailers are dropped, whatever they say: a header that comes behind the body was not there when it counted.
    """

    def __init__(self) -> None:
        self._missing = 0
        self._framing_bytes = 0
        self._state: Callable[[bytes, int, list[bytes]], int] = self._read_size
        self.is_whole = False

    @property
    def missing(self) -> int | None:
        """The bytes that belong to it and are not read: nobody knows."""
        return None

    def read(self, data: bytes) -> tuple[bytes, bytes]:
        """A part of the body at the start of these bytes, and the bytes that are not read yet.

        Raises:
            BrokenBody: these are no chunks, or too many trailers and extensions.
        """
        parts: list[bytes] = []
        place, end = 0, min(len(data), SLICE_BYTES)
        while place < end and not self.is_whole:
            size = self._state(data, place, parts)
            if not size:
                self._check_line(data, place)
                break
            place += size
        return b"".join(parts), data[place:]

    def _check_line(self, data: bytes, place: int) -> None:
        """Refuse a line without end as soon as it is wrong, or it is too long."""
        if data.find(b"\n", place) >= 0 or _NO_TEXT.search(data, place):
            raise BrokenBody("the chunks of the body are no chunks")
        if len(data) - place > MAX_CHUNK_LINE_BYTES:
            raise BrokenBody(_TOO_LONG)

    def _count(self, size: int) -> None:
        self._framing_bytes += size
        if self._framing_bytes > MAX_HEAD_BYTES:
            raise BrokenBody(_TOO_LONG)

    def _read_size(self, data: bytes, place: int, _parts: list[bytes]) -> int:
        line = _CHUNK_LINE.match(data, place)
        if line is None:
            return 0
        self._missing = int(line[1], 16)
        self._count(len(line[2] or b""))
        self._state = self._read_chunk if self._missing else self._read_trailer
        return len(line[0])

    def _read_chunk(self, data: bytes, place: int, parts: list[bytes]) -> int:
        part = data[place : place + self._missing]
        parts.append(part)
        self._missing -= len(part)
        if not self._missing:
            self._state = self._read_chunk_end
        return len(part)

    def _read_chunk_end(self, data: bytes, place: int, _parts: list[bytes]) -> int:
        if data.startswith(b"\r\n", place):
            self._state = self._read_size
            return 2
        if data[place : place + 2] != b"\r":
            raise BrokenBody("the chunks of the body are no chunks")
        return 0

    def _read_trailer(self, data: bytes, place: int, _parts: list[bytes]) -> int:
        if data.startswith(b"\r\n", place):
            self.is_whole = True
            return 2
        line = FIELD.match(data, place)
        if line is None:
            return 0
        self._count(len(line[0]))
        return len(line[0])


def body_of(head: RequestHead) -> SizedBody | ChunkedBody:
    """The reader of the body behind a head."""
    return ChunkedBody() if head.body_bytes is None else SizedBody(head.body_bytes)
