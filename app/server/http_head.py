"""The head of a request: one grammar for all, and a cache of heads that come again.

What does not match the grammar is refused, so that no proxy in front reads the same bytes in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from app.api.coalescing import HotEndpoint

MAX_HEAD_BYTES = 65536
"""Largest head; the trailers and the extensions of a chunked body have the same limit."""
MAX_TEMPLATES = 2
"""Heads that a connection remembers: one for each hot endpoint."""
MAX_UNUSED_TEMPLATES = 8
"""Heads in a row that nothing was like, after which a connection remembers none."""
MAX_TEMPLATE_BYTES = 2048
VARYING_HEADERS = (b"content-length", b"traceparent", b"tracestate", b"x-request-id")
"""Headers whose values differ from request to request; HTTP gives none of them a meaning, apart from the length."""
_WORD = re.compile(rb"[0-9A-Za-z_.:,;=/@+*-]{1,256}+(?=\r)")
"""A value that every parser reads alike: there is no space to strip, no line to fold and no byte to refuse."""
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
REQUEST_LINE = re.compile(rb"(%b) ([!\"$-~]++) HTTP/1\.([01])\r\n" % _TOKEN)
FIELD = re.compile(rb"(%b):([\t -~\x80-\xff]*+)\r\n" % _TOKEN)
"""A line of a head or of the trailers: no fold, no space before the colon, no other control character than a tab."""
_FIELDS = re.compile(rb"(?:%b:[\t -~\x80-\xff]*+\r\n)*+\r\n" % _TOKEN)
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?@]++)([/?].*+|)")
_HOST = re.compile(rb"[0-9A-Za-z._~!$&'()*+,;=%:\[\]-]*+")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ONCE = (b"host", b"content-length", b"transfer-encoding")


class BadHead(Exception):
    """These bytes are no request that is safe to read; the text says why."""


class RequestHead(NamedTuple):
    """The head of any request.

    Attributes:
        size: its bytes, with the empty line at its end.
        target: path and query, also where the request names an absolute URI.
        fields: its headers in their order, names in small letters.
        body_bytes: the length of the body that follows; None where it comes in chunks.
        is_persistent: the connection may stay open behind the request.
    """

    size: int
    method: bytes
    target: bytes
    version: str
    fields: Sequence[tuple[bytes, bytes]]
    headers: Mapping[bytes, bytes]
    body_bytes: int | None
    is_persistent: bool


def parse_head(raw: bytes) -> RequestHead:
    """Read a whole head, with the empty line at its end.

    Of several headers with one name the last one counts, as in ``dict(scope["headers"])``.

    An ``Upgrade`` is read as any other header: the service speaks HTTP/1.1 alone, and may ignore the offer.

    Raises:
        BadHead: it can be read in two ways, or not at all.
    """
    line = REQUEST_LINE.match(raw)
    if line is None or not _FIELDS.fullmatch(raw, line.end()):
        raise BadHead("this is no valid HTTP request")
    method, target, minor = line.groups()
    fields = [(name.lower(), value.strip(b" \t")) for name, value in FIELD.findall(raw, line.end())]
    headers = dict(fields)
    if len(headers) < len(fields):
        names = [name for name, _ in fields]
        for name in _ONCE:
            if names.count(name) > 1:
                raise BadHead(f"{name.decode()} comes twice")
    if not target.startswith(b"/"):
        target = _path_of(method, target, fields, headers)
    is_new = minor == b"1"
    if is_new and b"host" not in headers:
        raise BadHead("the header Host is missing")
    if not _HOST.fullmatch(headers.get(b"host", b"")):
        raise BadHead("Host is no name of a host")
    is_persistent = is_new and not (b"connection" in headers and _says_close(fields))
    length = _body_bytes(headers, is_new=is_new)
    return RequestHead(len(raw), method, target, f"1.{minor.decode()}", fields, headers, length, is_persistent)


def _path_of(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], headers: dict[bytes, bytes]) -> bytes:
    """Path and query of a target that is no path; the host in an absolute URI counts."""
    if target == b"*" and method == b"OPTIONS":
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None or method == b"CONNECT":
        raise BadHead("the target is neither a path nor an address of this service")
    host, rest = found.groups()
    if b"host" in headers:
        headers[b"host"] = host
        fields[:] = [(name, host if name == b"host" else value) for name, value in fields]
    return rest if rest.startswith(b"/") else b"/" + rest


def _body_bytes(headers: Mapping[bytes, bytes], *, is_new: bool) -> int | None:
    """The length of the body; None where it comes in chunks."""
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise BadHead("Content-Length and Transfer-Encoding exclude each other")
        if coding.lower() != b"chunked" or not is_new:
            raise BadHead("the only Transfer-Encoding is chunked")
        return None
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise BadHead("Content-Length is no length")
    return int(length)


def _says_close(fields: Sequence[tuple[bytes, bytes]]) -> bool:
    tokens = b",".join(value for name, value in fields if name == b"connection").lower().split(b",")
    return b"close" in [token.strip(b" \t") for token in tokens]


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
        elif len(raw) <= MAX_TEMPLATE_BYTES:
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
            if _WORD.match(raw, end - len(value)):
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
            word = _WORD.match(data, place + len(text))
            if word is None:
                return None
            headers[name] = word[0]
            place = word.end()
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
