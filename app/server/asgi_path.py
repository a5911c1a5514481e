"""Requests that are no plain ones: they go to the application over ASGI.

The body is read when the application asks for it, and not before: an application that refuses a request by its head
keeps nothing of the body.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

import structlog
from starlette.types import ASGIApp, Message, Scope

from app.api.http import DECLINE_BODY, RECEIVED_AT, internal_error, render_error
from app.api.middleware import request_id_of
from app.errors import Unavailable
from app.server.http_connection import HttpConnection, OtherRequest, body_of

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = (204, 304)


class Connection(Protocol):
    """The connection as a request over ASGI sees it.

    Attributes:
        is_gone: nobody reads the answer.
        is_writable: the peer takes what is sent to it.
    """

    http: HttpConnection
    is_gone: bool
    is_writable: bool

    @property
    def transport(self) -> asyncio.Transport:
        """The way to the peer."""

    def hold(self, body_bytes: int) -> bool:
        """Count so many more bytes of a body; False where there is no room for them."""

    def listen(self) -> None:
        """Read on."""

    def finish(self, *, closes: bool) -> None:
        """Go on with the next request, or end the connection."""


class AsgiRequest:
    """One request over ASGI, and its answer.

    Attributes:
        is_starved: the application waits for a part of the body that has not come.
    """

    def __init__(self, connection: Connection, request: OtherRequest, state: dict[str, Any]) -> None:
        self._connection = connection
        self._head = request.head
        self._body = body_of(request.head)
        self._scope = _scope_of(request, connection.transport, state)
        self._expects = request.head.version == "1.1" and request.head.headers.get(b"expect", b"").lower() == (
            b"100-continue"
        )
        self._news = asyncio.Event()
        self._scope[DECLINE_BODY] = self.decline_body
        self._is_body_given = False
        self._is_declined = False
        self._is_started = False
        self._is_complete = False
        self._closes = False
        self._is_chunked = False
        self._missing: int | None = None
        self.is_starved = False

    def wake(self) -> None:
        """Let everybody look again who waits for this connection."""
        self.is_starved = False
        self._news.set()
        self._news.clear()

    def decline_body(self) -> None:
        """Read nothing of the body: nobody takes it."""
        self._is_declined = True

    async def run(self, app: ASGIApp) -> None:
        """Have it answered, whatever happens."""
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                structlog.get_logger("server").error("unexpected_error", exc_info=error)
            await self._give_up(is_ending=isinstance(error, asyncio.CancelledError))
            if not isinstance(error, Exception):
                raise
        else:
            await self._give_up(is_ending=False)

    async def _give_up(self, *, is_ending: bool) -> None:
        """Answer for an application that has not, or end a connection whose answer is not whole."""
        if self._is_complete or self._connection.is_gone:
            return
        if self._is_started:
            self._connection.transport.abort()
            return
        request_id = request_id_of(dict(self._scope["headers"]))
        error = Unavailable("the service is shutting down")
        reply = render_error(error, request_id) if is_ending else internal_error(request_id)
        await reply.send(self.send, ((b"connection", b"close"),))

    async def receive(self) -> Message:
        """The next part of the body; behind it the end of the connection."""
        connection = self._connection
        while not (connection.is_gone or self._is_complete):
            if not (self._is_body_given or self._is_declined or self._is_started):
                before = connection.http.unread_bytes
                part = b"" if self._body.is_whole else self._read_body()
                if self._body.is_whole:
                    self._is_body_given = True
                    return {"type": "http.request", "body": part, "more_body": False}
                if 0 < connection.http.unread_bytes < before:  # a slice at a time: others have their turn
                    await asyncio.sleep(0)
                if part:
                    return {"type": "http.request", "body": part, "more_body": True}
                if 0 < connection.http.unread_bytes < before:
                    continue
                self._ask_for_more()
            await self._news.wait()
        return {"type": "http.disconnect"}

    def _read_body(self) -> bytes:
        """The part of the body that is here, or a slice of it.

        Raises:
            BrokenBody: it is not sent as HTTP asks.
            Unavailable: too many bodies are on their way.
        """
        http = self._connection.http
        part, rest = self._body.read(http.take())
        http.give_back(rest)
        if part and not self._connection.hold(len(part)):
            raise Unavailable("too many bodies are on their way")
        return part

    def _ask_for_more(self) -> None:
        if self._expects:
            self._connection.transport.write(CONTINUE)
        self._expects = False
        self.is_starved = True
        self._connection.listen()

    async def send(self, message: Message) -> None:
        """Send the head of the answer, or a part of its body, as soon as the peer takes it."""
        connection = self._connection
        while not (connection.is_writable or connection.is_gone):
            await self._news.wait()
        if connection.is_gone:
            return
        if message["type"] == "http.response.start" and not self._is_started:
            connection.transport.write(self._start(message["status"], list(message.get("headers", ()))))
        elif message["type"] == "http.response.body" and self._is_started and not self._is_complete:
            self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"the ASGI message {message['type']} comes at the wrong time")

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head of the answer; whether the connection stays is settled with it."""
        self._is_started = True
        http = self._connection.http
        if not self._body.is_whole:
            http.pass_over(None if self._expects else self._body.missing)
        names = {name.lower(): value for name, value in headers}
        self._closes = (
            not self._head.is_persistent
            or (http.is_closing and not http.unread_bytes)
            or names.get(b"connection", b"").lower() == b"close"
        )
        length = names.get(b"content-length")
        if self._head.method == b"HEAD" or status in _BODILESS:
            self._missing = 0
        elif length is not None:
            self._missing = int(length)
        elif self._head.version == "1.1":
            self._is_chunked = True
            headers.append((b"transfer-encoding", b"chunked"))
        else:
            self._closes = True
        if self._closes and b"connection" not in names:
            headers.append((b"connection", b"close"))
        if any(byte in part for header in headers for part in header for byte in b"\r\n\0"):
            raise RuntimeError("a header of the answer has a line break in it")
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, HTTPStatus(status).phrase.encode(), lines)

    def _send_body(self, body: bytes, *, is_last: bool) -> None:
        transport = self._connection.transport
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            transport.write(chunk + b"0\r\n\r\n" if is_last else chunk)
        elif self._missing is None:
            transport.write(body)
        elif self._head.method != b"HEAD":
            self._missing -= len(body)
            if self._missing < 0 or (is_last and self._missing):
                raise RuntimeError("the answer has not the length that it names")
            transport.write(body)
        if is_last:
            self._is_complete = True
            self.wake()
            self._connection.finish(closes=self._closes)


def _scope_of(request: OtherRequest, transport: asyncio.Transport, state: dict[str, Any]) -> Scope:
    """The scope of a request, as ASGI describes it."""
    head = request.head
    raw_path, _, query = head.target.partition(b"?")
    path = raw_path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version,
        "server": _address(transport, "sockname"),
        "client": _address(transport, "peername"),
        "scheme": "http",
        "method": head.method.decode("ascii"),
        "root_path": "",
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": list(head.fields),
        "state": state.copy(),
        RECEIVED_AT: request.received_at,
    }


def _address(transport: asyncio.Transport, name: str) -> tuple[str, int] | None:
    found = transport.get_extra_info(name)
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) and len(found) > 1 else None
