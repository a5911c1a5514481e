"""Read a JSON body within its limits, and render answers and errors."""

from __future__ import annotations

import asyncio
import codecs
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter
from typing import Any, cast

import orjson
from msgspec import Struct
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.errors import (
    Invalid,
    PlumblineError,
    RequestError,
    TooLarge,
    Unauthenticated,
    WrongMediaType,
)
from app.logging import trace_id_of
from app.types import Prediction, RequestSpan, Stages

PIECE_BYTES = 65_536
JSON = (b"content-type", b"application/json")
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""On every answer; a page has its own ``Content-Security-Policy``, a file its own ``Cache-Control``."""


class Reply(Struct, frozen=True, gc=False):
    """A whole answer."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (JSON,)

    def render(self, request_id: str, *, keep_alive: bool) -> bytes:
        """The answer as HTTP/1.1 writes it."""
        return b"%b%d\r\nx-request-id: %b\r\n\r\n%b" % (
            _head(self.status, self.headers, keep_alive=keep_alive),
            len(self.body),
            request_id.encode(),
            self.body,
        )

    async def send(self, send: Send, more: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Send it in two messages, with its length and more headers."""
        headers = [*self.headers, (b"content-length", b"%d" % len(self.body)), *more]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[tuple[bytes, bytes], ...], *, keep_alive: bool) -> bytes:
    """The status line and the headers, up to the length of the body."""
    closing = () if keep_alive else ((b"connection", b"close"),)
    lines = (b"%b: %b\r\n" % header for header in (*headers, *SECURITY_HEADERS, *closing))
    phrase = HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%bcontent-length: " % (status, phrase, b"".join(lines))


UNTRACED = ("/health", "/metrics")
"""Routes that machines ask all the time; their requests have no span."""


class Call(Struct):
    """One request on the hot path.

    Attributes:
        received_at: the time of its first byte, by ``time.perf_counter``.
        body: the whole body as it was sent, once it is here; a large one is the buffer that it came into.
        key_model: the only model that the caller's key may ask about; None: every one.
        client: the caller's address.
        notes: what else goes into its log line.
        prediction: the answer to its only row.
        stages: when its stages began and ended, where traces are sent.
        is_admitted: whether its host, its key and its limits were looked at.
    """

    method: str
    path: str
    query_string: bytes
    headers: Mapping[bytes, bytes]
    request_id: str
    received_at: float
    body: bytes = b""
    client: str = ""
    key_name: str | None = None
    key_model: str | None = None
    notes: Mapping[str, Any] | None = None
    prediction: Prediction | None = None
    stages: Stages | None = None
    is_admitted: bool = False

    @property
    def trace_id(self) -> str | None:
        """The trace that it belongs to."""
        return trace_id_of(self.headers) if self.stages is None else self.stages.trace_id

    def begin_stages(self) -> None:
        """Note its stages from now on; it is in its caller's trace, else in one of its own."""
        if self.stages is None:
            self.stages = Stages(trace_id_of(self.headers) or os.urandom(16).hex())

    def span(self, status: int, ended_at: float) -> RequestSpan | None:
        """Its span; None for a route that machines ask all the time."""
        if self.path.startswith(UNTRACED):
            return None
        self.begin_stages()
        interval, notes = (self.received_at, ended_at), self.all_notes()
        stages = cast("Stages", self.stages)
        return RequestSpan(self.method, self.path, status, interval, self.headers, stages, self.request_id, notes)

    def all_notes(self) -> dict[str, Any]:
        """All that its line in the access log says beside its route, status and time."""
        notes = dict(self.notes or {})
        if (row := self.prediction) is not None:
            notes |= {"rows": 1, "prediction_id": row.prediction_id, "model_version": row.model_version}
        if self.key_name is not None:
            notes["key"] = self.key_name
        if (trace_id := self.trace_id) is not None:
            notes["trace_id"] = trace_id
        return notes

    def query(self, name: str) -> str | None:
        """The last value of a query parameter."""
        if not self.query_string:
            return None
        return QueryParams(self.query_string.decode("latin-1")).get(name)


RECEIVED_AT = "plumbline.received_at"
"""Where the server notes in a scope when the first byte of the request came."""


DECLINE_BODY = "plumbline.decline_body"
"""Where the server leaves, in a scope, what the application calls if it takes no body: then none is read."""


def received_at_of(scope: Scope) -> float:
    """The time of the first byte of a request over ASGI.

    By a server that does not note it, it is the time of this call.
    """
    received_at: float | None = scope.get(RECEIVED_AT)
    return perf_counter() if received_at is None else received_at


def client_of(scope: Scope) -> str:
    """The address of the caller of a request over ASGI, as the server gives it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Most bytes of a body, also after decompression, and most seconds it may take to arrive.

    Attributes:
        setting: the origin of the bound, as the refusal names it.
    """

    bytes: int
    seconds: float
    setting: str = "server.max_body_bytes"


def check_head(call: Call, limits: BodyLimits) -> None:
    """See whether a body is JSON of an allowed length, as its head says.

    Raises:
        WrongMediaType: the content is not ``application/json``, or compressed by something else than gzip.
        TooLarge: more bytes than allowed.
    """
    media = call.headers.get(b"content-type", b"")
    if media != b"application/json" and media.split(b";")[0].strip().lower() != b"application/json":
        raise WrongMediaType("send content-type: application/json")
    if _encoding(call) not in (b"identity", b"gzip"):
        raise WrongMediaType("send content-encoding: identity or gzip")
    check_length(call, limits)


def check_length(call: Call, limits: BodyLimits) -> None:
    """See whether the head says that the body is too long.

    Raises:
        TooLarge: more bytes than allowed.
    """
    length = call.headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > limits.bytes:
        raise _too_large(limits)


def unpack(call: Call, limits: BodyLimits) -> bytes:
    """The JSON of a whole body, without a byte order mark at its beginning.

    Some writers of UTF-8 begin with one.

    Raises:
        WrongMediaType: see :func:`check_head`; or the body is not compressed as it says.
        TooLarge: more bytes than allowed, as sent or unpacked.
    """
    body, headers = call.body, call.headers
    if len(body) > limits.bytes:
        raise _too_large(limits)
    if headers.get(b"content-type") != b"application/json" or b"content-encoding" in headers:
        check_head(call, limits)
        body = _unzip(body, limits) if _encoding(call) == b"gzip" else body
    return body.removeprefix(codecs.BOM_UTF8) if len(body) <= PIECE_BYTES or body.startswith(codecs.BOM_UTF8) else body


def _encoding(call: Call) -> bytes:
    return call.headers.get(b"content-encoding", b"identity").lower()


class SlowBody(RequestError):
    """The body did not arrive within ``server.receive_timeout``."""

    status = 408


class BrokenBody(RequestError):
    """The body is not sent as HTTP asks; nothing behind it can be read."""


class CallerGone(RequestError):
    """The connection ended before its body; nobody reads the answer."""


async def receive_body(receive: Receive, limits: BodyLimits) -> bytes:
    """The body of a request over ASGI.

    Raises:
        TooLarge: more bytes than allowed.
        SlowBody: it did not arrive in time.
        CallerGone: the connection ended first.
    """
    message = await _next_part(receive)
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    try:
        async with asyncio.timeout(limits.seconds):
            return await _rest(receive, body, limits)
    except TimeoutError:
        raise SlowBody("the body did not arrive in time") from None


async def _next_part(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise CallerGone("the connection ended before its body")
    return message


async def _rest(receive: Receive, first: bytes, limits: BodyLimits) -> bytes:
    body = bytearray(first)
    more = True
    while more:
        message = await _next_part(receive)
        body += message.get("body", b"")
        if len(body) > limits.bytes:
            raise _too_large(limits)
        more = message.get("more_body", False)
    return cast("bytes", body)


def _unzip(body: bytes, limits: BodyLimits) -> bytes:
    """A body unpacked, piece by piece: in one piece it would be in memory twice."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    unpacked = bytearray()
    try:
        for start in range(0, len(body), PIECE_BYTES):
            piece = body[start : start + PIECE_BYTES]
            while piece and not unpacker.eof:
                unpacked += unpacker.decompress(piece, PIECE_BYTES)
                piece = unpacker.unconsumed_tail
                if len(unpacked) > limits.bytes:
                    raise _too_large(limits)
            if unpacker.eof:
                break
    except zlib.error:
        raise WrongMediaType("the body is not gzip, though its content-encoding says so") from None
    if not unpacker.eof or unpacker.unused_data or start + PIECE_BYTES < len(body):
        raise WrongMediaType("the body is not one whole gzip member, though its content-encoding says so")
    return cast("bytes", unpacked)


def _too_large(limits: BodyLimits) -> TooLarge:
    return TooLarge(f"the body is larger than {limits.bytes} bytes ({limits.setting})")


def json_response(content: object, status: int = 200) -> Response:
    """An answer that is what its endpoint says, neither validated nor copied on its way."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def bytes_response(body: bytes, status: int = 200) -> Response:
    """An answer of JSON that another thread has rendered."""
    return Response(body, status, media_type="application/json")


def render_error(error: PlumblineError, error_id: str) -> Reply:
    """The answer to an expected failure: ``{"detail": …}``, never with the input in it."""
    if isinstance(error, Invalid):
        fields = [
            {
                "loc": [error.place, *item.field.split(".")],
                "field": item.field,
                "expected": item.expected,
                "msg": item.reason,
                "type": "invalid",
            }
            for item in error.fields
        ]
        return Reply(422, orjson.dumps({"detail": fields}))
    if not isinstance(error, RequestError):
        return internal_error(error_id)
    headers = [JSON]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    return Reply(error.status, orjson.dumps({"detail": str(error)}), tuple(headers))


def internal_error(error_id: str) -> Reply:
    """The answer to the unexpected: an id to look for in the log, and nothing else."""
    return Reply(500, orjson.dumps({"detail": f"internal error; error id {error_id}"}))
