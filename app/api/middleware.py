"""Around every request: its host, its id, its caller's key, the access log, the deadline.

A page can point its own name at 127.0.0.1 (DNS rebinding), and then its scripts may read what that address answers. Its
requests carry its name as ``Host``. It can also post to any address; the browser then says where the page is from.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from fastapi.routing import RouteContext, iter_route_contexts
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from app.api.documentation import answer_of
from app.api.http import (
    DECLINE_BODY,
    SECURITY_HEADERS,
    BodyLimits,
    Call,
    check_head,
    check_length,
    client_of,
    receive_body,
    render_error,
    unpack,
)
from app.api.request_guards import Keyring, sends_key
from app.config.fields import Logging
from app.config.settings import Scope, Server
from app.errors import Forbidden, PlumblineError, UntrustedHost
from app.logging import line_outputs
from app.telemetry import Sender
from app.types import new_id

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The caller's id where it is harmless in a log, else ours."""
    sent = headers.get(b"x-request-id")
    if sent is not None and REQUEST_ID.fullmatch(sent):
        return str(sent, "ascii")
    return new_id()


def common_headers(request_id: str) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of every answer."""
    return ((b"x-request-id", request_id.encode()), *SECURITY_HEADERS)


Count: TypeAlias = Callable[[str, str, Sequence[int]], object]
"""Counts the answers of a route: its method, its path and their statuses."""


class RequestLine(NamedTuple):
    """A request as the access log tells of it."""

    request_id: str
    method: str
    route: str
    status: int
    seconds: float
    notes: Mapping[str, Any]
    """What else is known, with the trace, the prediction and the name of the key."""

    def event(self, now: str, *, for_people: bool) -> dict[str, Any]:
        """The request as an event; people read it as one sentence."""
        level = "error" if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "info"
        if for_people:
            text = f"{self.method} {self.route} {self.status} in {self.seconds * 1000:.1f} ms"
            return {"time": now, "level": level, "event": text, **self.notes, "request_id": self.request_id}
        head = {"time": now, "level": level, "logger": "access", "event": "request", "request_id": self.request_id}
        request = {"method": self.method, "route": self.route, "status": self.status}
        return {**head, **request, "duration_ms": round(self.seconds * 1000, 3), **self.notes}


class AccessLog:
    """Lines about requests, written once a turn of the event loop.

    A write for each request would cost more than its answer. Requests are counted here too.

    Args:
        least: the least status of an answer whose request gets a line; None: no request does.

    Attributes:
        spans: takes the spans of requests; None where traces are not sent.
    """

    def __init__(self, count: Count, least: int | None = 0) -> None:
        self._count = count
        self.spans: Sender | None = None
        self._least = math.inf if least is None else least
        self._noted: list[RequestLine] = []

    @classmethod
    def of(cls, logging: Logging, count: Count) -> AccessLog:
        """The log that the settings ask for.

        A request that failed is of level error, each other one of level info.
        """
        least: dict[str, int] = {"all": 0, "errors": HTTPStatus.BAD_REQUEST}
        if logging.access == "off":
            return cls(count, None)
        quiet = HTTPStatus.INTERNAL_SERVER_ERROR if logging.level in ("warning", "error") else 0
        return cls(count, max(least[logging.access], quiet))

    def note_all(self, calls: Sequence[Call], statuses: Sequence[int]) -> None:
        """Note a line for each of the calls for one route, which are answered now.

        It is written when the loop has no more requests at hand.
        """
        now, least = perf_counter(), self._least
        self._count(calls[0].method, calls[0].path, statuses)
        if self.spans is not None:
            self.spans.offer(
                span for call, status in zip(calls, statuses, strict=True) if (span := call.span(status, now))
            )
        noted = [
            RequestLine(call.request_id, call.method, call.path, status, now - call.received_at, call.all_notes())
            for call, status in zip(calls, statuses, strict=True)
            if status >= least
        ]
        if noted:
            self._add(noted)

    def _add(self, lines: Sequence[RequestLine]) -> None:
        if not self._noted:
            asyncio.get_running_loop().call_soon(self._flush)
        self._noted += lines

    def _flush(self) -> None:
        noted, self._noted = self._noted, []
        now = datetime.now(UTC).isoformat()
        for output in line_outputs():
            output.write_events([line.event(now, for_people=output.for_people) for line in noted])


@dataclass(slots=True, eq=False)
class Watch:
    """One call under watch; ``expired`` once it has been cancelled for taking too long."""

    until: float
    task: asyncio.Task[object] | None
    expired: bool = False


class Deadlines:
    """Cancel the tasks that run longer than ``seconds``.

    All have the same time, so the first that starts is the first that ends.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watches: deque[Watch] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # kept: asyncio asks the system for it, each time

    def enter(self) -> Watch:
        """Watch the current task from now on."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        watch = Watch(loop.time() + self._seconds, asyncio.current_task(loop))
        self._watches.append(watch)
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._sweep, loop)
        return watch

    def leave(self, watch: Watch) -> None:
        """The call is answered."""
        watch.task = None
        self._forget_answered()

    def _forget_answered(self) -> None:
        while self._watches and self._watches[0].task is None:
            self._watches.popleft()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what has expired, and come back for the next."""
        now = loop.time()
        while self._watches and self._watches[0].until <= now:
            watch = self._watches.popleft()
            if watch.task is not None:
                watch.expired = True
                watch.task.cancel()
        self._forget_answered()
        self._timer = loop.call_at(self._watches[0].until, self._sweep, loop) if self._watches else None


class _BodyRoute(NamedTuple):
    """The facts of a route that are looked at before a body is read."""

    path: re.Pattern[str]
    methods: Collection[str]
    key_scope: Scope | None
    takes_body: bool

    @classmethod
    def of(cls, context: RouteContext) -> _BodyRoute:
        """Take them from the framework."""
        declared = answer_of(context.endpoint)
        path, _, _ = compile_path(context.path or "")
        takes_body = getattr(context.original_route, "body_field", None) is not None
        return cls(path, context.methods or (), declared.scope if declared else None, takes_body)


MAX_BODY_BYTES = 65_536
"""Largest body of a route that takes neither rows nor outcomes: a silence with its reason, or a version."""


class BodyGate:
    """The only way of a body to the routes that are no hot ones.

    A framework reads the body first, and asks for the key then. Here the head is looked at first: route, key, type of
    the content and length. Then the body is read within its limits, for a route that takes one.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], keyring: Keyring, limits: BodyLimits) -> None:
        self._app = app
        self._routes = [_BodyRoute.of(context) for context in iter_route_contexts(routes) if context.methods]
        self._keyring = keyring
        small = replace(limits, bytes=MAX_BODY_BYTES, setting="a bound of this path")
        self._limits = min(limits, small, key=lambda limit: limit.bytes)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its whole body or without any."""
        headers = dict(scope.get("headers", ()))
        if not _announces_body(headers):
            await self._app(scope, receive, send)
            return
        request_id = scope["plumbline.request_id"]
        call = Call(scope["method"], scope["path"], b"", headers, request_id, scope["plumbline.received_at"])
        call.client = client_of(scope)
        try:
            if self._takes_body(scope, call):
                call.body = await receive_body(receive, self._limits)
                call.body = unpack(call, self._limits)
            elif DECLINE_BODY in scope:
                scope[DECLINE_BODY]()
        except PlumblineError as error:
            await render_error(error, request_id).send(send)
            return
        await self._app(scope, _with_body(call.body, receive), send)

    def _takes_body(self, scope: AsgiScope, call: Call) -> bool:
        """Whether the route of a request takes its body; what no route wants is never read.

        Raises:
            Unauthenticated, Forbidden: see :meth:`Keyring.authorise`.
            WrongMediaType, TooLarge: see :func:`check_head`.
        """
        path, method = scope["path"], scope["method"]
        route = next((route for route in self._routes if method in route.methods and route.path.match(path)), None)
        if route is None:
            return False
        if route.key_scope is not None:
            self._keyring.authorise(call.headers, route.key_scope, call.client)
        if method == "GET":
            check_length(call, self._limits)
        else:
            check_head(call, self._limits)
        return route.takes_body


def _announces_body(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


def _with_body(body: bytes, receive: Receive) -> Receive:
    """The channel of a request whose body is here; behind it comes the end of the connection."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Message:
        return parts.pop() if parts else await receive()

    return receiving


SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEALTH = "/health/"
"""Paths without data, which an orchestrator asks by the address of a container."""
MAX_KNOWN_HOSTS = 256
"""Trusted ``Host`` headers that are remembered as they were sent, with their ports."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


class TrustedHosts:
    """Checks the ``Host`` of every request, and the origin of those that change something.

    Args:
        keyring: where it asks for keys, any host will do, since a page of another site has none.
    """

    def __init__(self, server: Server, keyring: Keyring) -> None:
        self._names = {name.lower() for name in (server.host, *server.trusted_hosts)}
        self._origins = {_origin(server.public_url)} - {None}
        self._names |= {host for origin in self._origins if origin for host in (_name(origin[0]),)}
        self._keyring = keyring
        self._any_with_keys = not server.trusted_hosts
        self._known: set[bytes] = set()

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Check a request; it costs one look into a set where nothing is wrong.

        Raises:
            UntrustedHost: the request is for a host that is not ours.
            Forbidden: a page of another site sent it.
        """
        host = headers.get(b"host", b"")
        from_page = b"origin" in headers or b"sec-fetch-site" in headers
        if host in self._known and not from_page:
            return
        has_key = sends_key(headers)
        if host not in self._known:
            exempt = self._any_with_keys or has_key or path.startswith(HEALTH)
            if not (exempt and self._keyring.guards("read")):
                self._check_host(host)
        if from_page and method not in SAFE_METHODS and not has_key:
            self._check_origin(headers, host)

    def _check_host(self, host: bytes) -> None:
        name = _name(host.decode("latin-1"))
        if name and not self._trusts(name):
            raise UntrustedHost("this host is not served here: add it to server.trusted_hosts, or call 127.0.0.1")
        if len(self._known) < MAX_KNOWN_HOSTS:
            self._known.add(host)

    def _trusts(self, name: str) -> bool:
        if name in self._names or "*" in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        if any(trusted.startswith("*.") and name.endswith(trusted[1:]) for trusted in self._names):
            return True
        with suppress(ValueError):
            return ip_address(name).is_loopback
        return False

    def _check_origin(self, headers: Mapping[bytes, bytes], host: bytes) -> None:
        """Refuse an unsafe request of a page of another origin.

        A script cannot send a key without asking first, which is never allowed; so a request with one is no page's.
        """
        origin = _origin(headers.get(b"origin", b"").decode("latin-1"))
        if origin is not None and origin in self._origins:
            return
        if (site := headers.get(b"sec-fetch-site")) is not None:
            foreign = site not in (b"same-origin", b"none")
        else:
            foreign = origin is None or origin != _origin(f"{origin[1]}://{host.decode('latin-1')}")
        if foreign:
            raise Forbidden("a page of another origin may not do this; send an API key to do it from a program")


def _name(host: str) -> str:
    """The name or address in a ``Host`` header, without its port.

    >>> _name("[::1]:8000"), _name("Localhost.:8000")
    ('::1', 'localhost')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Host, scheme and port of a URL; None where it has none, like the origin ``null``.

    >>> _origin("https://Ml.example/path"), _origin("null")
    (('ml.example', 'https', 443), None)
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname, parts.scheme, port) if parts.hostname else None
