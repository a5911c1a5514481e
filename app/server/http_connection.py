"""HTTP/1.1 of one connection without I/O: bytes become requests, replies become bytes.

It reads plain requests for hot endpoints only. It gives everything else back as it came, so that uvicorn reads it from
its first byte on. No socket, clock or event loop is needed here, which lets tests try any bytes in any pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from app.api.coalescing import HotEndpoint, HotRoutes
from app.api.http import Reply

MAX_TEMPLATES = 2
"""Heads that a connection remembers: one for each hot endpoint."""
MAX_UNUSED_TEMPLATES = 8
"""Heads in a row that nothing was like, after which a connection remembers none."""
MAX_TEMPLATE_BYTES = 2048
MAX_VALUE_BYTES = 256
VARYING_HEADERS = (b"content-length", b"traceparent", b"tracestate", b"x-request-id")
"""Headers whose values differ from request to request; HTTP gives none of them a meaning, apart from the length."""
_PUNCTUATION = b"-_.:,;=/@+*"


class ParsedHead(NamedTuple):
    """The head of a plain request.

    Attributes:
        size: its bytes, with the empty line at its end.
        body_bytes: the length of the body that follows.
    """

    size: int
    endpoint: HotEndpoint
    headers: Mapping[bytes, bytes]
    body_bytes: int


class HeadParser:
    """httptools' parser over the head of one request.

    It never sees a body, whose length the head names.

    Attributes:
        is_odd: it is no valid HTTP, or asks for an upgrade.
        is_persistent: it is HTTP/1.1, and the connection stays open behind it.
    """

    def __init__(self) -> None:
        self._parser = HttpRequestParser(self)
        self.read_bytes = 0
        self.method = b""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.is_odd = False
        self.is_persistent = False

    def feed(self, data: bytes | bytearray) -> None:
        """Read the next part."""
        self.read_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.is_odd = True

    def on_url(self, part: bytes) -> None:
        """Note the target, which may come in parts."""
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header.

        Of several with one name the last one counts, as in ``dict(scope["headers"])``.
        """
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Note what only the parser knows."""
        self.method = self._parser.get_method()
        self.is_persistent = self._parser.get_http_version() == "1.1" and self._parser.should_keep_alive()


def body_length(headers: Mapping[bytes, bytes], max_bytes: int) -> int:
    """The length of the body that a head announces.

    It is 0 where there is none, where it is not clear, or where it is not allowed.
    """
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or b"transfer-encoding" in headers or b"expect" in headers:
        return 0
    return size if (size := int(length)) <= max_bytes else 0


class HeaderCache:
    """The heads that one connection repeats; their secrets go with the connection."""

    __slots__ = ("_max_body_bytes", "_templates", "_unused")

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._templates: tuple[HeadTemplate, ...] = ()
        self._unused = 0

    def find(self, data: bytes) -> ParsedHead | None:
        """The head at the start of these bytes; None where it is not known, or not whole."""
        for template in self._templates:
            head = template.match(data, self._max_body_bytes)
            if head is not None:
                self._unused = 0
                return head
        return None

    def keep(self, raw: bytes, head: ParsedHead) -> None:
        """Remember a head with its bytes.

        A client whose heads are never alike is no longer looked at.
        """
        self._unused += 1
        if self._unused > MAX_UNUSED_TEMPLATES:
            self._templates = ()
        elif len(raw) <= MAX_TEMPLATE_BYTES and b"\r\n " not in raw and b"\r\n\t" not in raw:
            self._templates = (HeadTemplate(raw, head), *self._templates[: MAX_TEMPLATES - 1])


class HeadTemplate:
    """A head that was parsed before: the same bytes mean the same, whatever stands in the holes."""

    __slots__ = ("_head", "_holes", "_raw", "_tail")

    def __init__(self, raw: bytes, head: ParsedHead) -> None:
        self._raw = raw
        self._head = head
        self._holes: list[tuple[bytes, bytes]] = []
        start = 0
        for place, name in sorted(_varying_values(raw)):
            end = raw.find(b"\r", place)
            value = raw[place:end].lstrip(b" \t")
            if _is_word(value):
                self._holes.append((raw[start : end - len(value)], name))
                start = end
        self._tail = raw[start:]

    def match(self, data: bytes, max_body_bytes: int) -> ParsedHead | None:
        """The head at the start of these bytes; None where it is another one, or not whole."""
        known = self._head
        if data.startswith(self._raw):
            return known
        place = 0
        headers = dict(known.headers)
        for text, name in self._holes:
            if not data.startswith(text, place):
                return None
            place += len(text)
            end = data.find(b"\r", place, place + MAX_VALUE_BYTES)
            headers[name] = value = data[place:end]
            if end < 0 or not _is_word(value):
                return None
            place = end
        if not data.startswith(self._tail, place):
            return None
        length = body_length(headers, max_body_bytes)
        return ParsedHead(place + len(self._tail), known.endpoint, headers, length) if length else None


def _varying_values(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The places of the values of varying headers, by name.

    A header that comes twice is left as it is.
    """
    lowered = raw.lower()
    for name in VARYING_HEADERS:
        line = b"\r\n%b:" % name
        place = lowered.find(line)
        if place >= 0 and place == lowered.rfind(line):
            yield place + len(line), name


def _is_word(value: bytes) -> bool:
    """Whether every parser reads a value alike.

    There is no space to strip, no line to fold and no byte to refuse.
    """
    return value.translate(None, _PUNCTUATION).isalnum()


MAX_HEAD_BYTES = 65536
HEAD_END = b"\r\n\r\n"


class PlainRequest(NamedTuple):
    """A whole request for a hot endpoint; ``received_at`` is the time of its first byte."""

    endpoint: HotEndpoint
    headers: Mapping[bytes, bytes]
    body: bytes
    received_at: float


class UnreadBytes(NamedTuple):
    """All bytes of a connection from the first byte of a request on that is not a plain one."""

    data: bytes
    received_at: float


Event: TypeAlias = PlainRequest | UnreadBytes


class HttpConnection:
    """The state of one connection.

    It receives a request, or the request is answered, or it is handed over.

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
        """The next request where it is whole, or the bytes to hand over.

        None: more bytes or a reply must come first.
        """
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
        """The bytes of the reply to the request.

        The connection goes on with the next request unless this is the last.
        """
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
        """The head of the unread bytes.

        None: it is not plain, or ``_parser`` waits for its rest.
        """
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
        """A head for a hot endpoint, on a connection that stays.

        Its body has a known and allowed length.
        """
        endpoint = self._routes.get((parser.method, parser.target))
        length = body_length(parser.headers, self._max_body_bytes)
        if endpoint is None or not length or parser.is_odd or not parser.is_persistent:
            return None
        head = ParsedHead(len(raw), endpoint, parser.headers, length)
        self._cache.keep(raw, head)
        return head
