"""The head of a plain request: what httptools finds in it, and what a connection remembers of it.

A client repeats its head with every request, but for the length of the body and the ids of a trace. A template keeps
the head with holes in these places, so that the next one needs no parser: some 7 of the 40 microseconds of a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from app.api.coalescing import RequestCoalescer

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
    endpoint: RequestCoalescer
    headers: Mapping[bytes, bytes]
    body_bytes: int


class HeadParser:
    """httptools' parser over the head of one request; it never sees a body, whose length the head names.

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
        """Note a header; of several with one name the last one counts, as in ``dict(scope["headers"])``."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Note what only the parser knows."""
        self.method = self._parser.get_method()
        self.is_persistent = self._parser.get_http_version() == "1.1" and self._parser.should_keep_alive()


def body_length(headers: Mapping[bytes, bytes], max_bytes: int) -> int:
    """The length of the body that a head announces; 0 where there is none, it is not clear, or it is not allowed."""
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
        """Remember a head with its bytes; a client whose heads are never alike is no longer looked at."""
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
    """Where the value of each varying header begins, with its name; a header that comes twice is left as it is."""
    lowered = raw.lower()
    for name in VARYING_HEADERS:
        line = b"\r\n%b:" % name
        place = lowered.find(line)
        if place >= 0 and place == lowered.rfind(line):
            yield place + len(line), name


def _is_word(value: bytes) -> bool:
    """Whether every parser reads a value alike: no space to strip, no line to fold, no byte to refuse."""
    return value.translate(None, _PUNCTUATION).isalnum()
