"""Around every request: its id, the key of its caller, the access log, and the deadline."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import re
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic, perf_counter, time
from typing import Any, TypeAlias

import orjson

from app.api.http import SECURITY_HEADERS, Call, Reply
from app.config.settings import Key, Scope
from app.errors import Forbidden, NotFound, TooManyRequests, Unauthenticated
from app.store.queries.keys import StoredKey
from app.types import SECOND, new_id

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


_Line: TypeAlias = tuple[str, str, str, int, float, Any, str | None]


class AccessLog:
    """JSON lines on standard output, written once a turn of the event loop.

    A write for each request would cost more than its answer.
    """

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._write = write or _to_standard_output
        self._noted: list[_Line] = []

    def note(
        self,
        request_id: str,
        method: str,
        route: str,
        status: int,
        seconds: float,
        notes: Any = None,
        key_name: str | None = None,
    ) -> None:
        """Note a line; it is written when the loop has no more requests at hand."""
        self._add([(request_id, method, route, status, seconds, notes, key_name)])

    def note_all(self, calls: Sequence[Call], replies: Sequence[Reply]) -> None:
        """Note a line for each of the calls, which are answered now."""
        now = perf_counter()
        self._add(
            [
                (
                    call.request_id,
                    call.method,
                    call.path,
                    reply.status,
                    now - call.received_at,
                    call.notes,
                    call.key_name,
                )
                for call, reply in zip(calls, replies, strict=True)
            ]
        )

    def _add(self, lines: Sequence[_Line]) -> None:
        if not self._noted:
            asyncio.get_running_loop().call_soon(self._flush)
        self._noted += lines

    def _flush(self) -> None:
        noted, self._noted = self._noted, []
        head = f'{{"time":"{datetime.now(UTC).isoformat()}","level":"info","logger":"access","event":"request"'
        self._write("".join([head + _rest(*note) for note in noted]).encode())


def _rest(
    request_id: str, method: str, route: str, status: int, seconds: float, notes: Any, key_name: str | None
) -> str:
    """A line behind its time; none of these texts needs escaping, the notes may."""
    more = f",{orjson.dumps(notes).decode()[1:-1]}" if notes else ""
    if key_name is not None:
        more += f',"key":"{key_name}"'
    return (
        f',"request_id":"{request_id}","method":"{method}","route":"{route}",'
        f'"status":{status},"duration_ms":{seconds * 1000:.3f}{more}}}\n'
    )


def _to_standard_output(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


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


MAX_FAILURES = 20
"""Wrong keys that an address may send within ``FAILURE_WINDOW_S``."""
FAILURE_WINDOW_S = 60.0
MAX_ADDRESSES = 4096
"""Addresses whose wrong keys are remembered; the one that failed the longest ago is forgotten first."""


class FailureLimit:
    """Counts the wrong keys of each address, in bounded memory.

    Only callers without a valid key are refused: a right key is taken from every address, so that one caller behind a
    proxy cannot lock out the others.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, client: str) -> None:
        """See whether a caller without a valid key may be told so once more.

        Raises:
            TooManyRequests: its address has sent too many wrong keys; with the time to wait.
        """
        failures = self._failures.get(_network(client))
        if failures is None or len(failures) < MAX_FAILURES:
            return
        wait_s = failures[0] + FAILURE_WINDOW_S - self._clock()
        if wait_s > 0:
            raise TooManyRequests("too many wrong API keys from this address", math.ceil(wait_s))

    def count(self, client: str) -> None:
        """Count one wrong key."""
        address = _network(client)
        self._failures.setdefault(address, deque(maxlen=MAX_FAILURES)).append(self._clock())
        self._failures.move_to_end(address)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)


def _network(client: str) -> str:
    """The address, of IPv6 the first 64 bits: a caller has all addresses behind them."""
    return ":".join(client.split(":")[:4]) if client.count(":") > 1 and "." not in client else client


GRANT = "plumbline.grant"
"""Where the rights of the caller's key are kept, in the scope of a request over ASGI."""


@dataclass(slots=True, eq=False)
class Grant:
    """The rights of one key.

    Attributes:
        model: the only model that it may ask about; None: every one.
        expires_at: in seconds since the epoch; None: never.
        used: set by each use, taken back when the use is stored.
    """

    name: str
    scopes: frozenset[str]
    model: str | None = None
    expires_at: float | None = None
    used: bool = False


class Keyring:
    """All keys, those of the configuration and those of the store.

    Without any, everybody may do everything.
    A key is hashed and compared once for each version of the keyring, and then found by its header.
    Call it in one thread.

    Args:
        configured: the keys of the configuration.
        opened: what needs no key although there are keys, see ``auth.open``.
        model: the name of the served model.
    """

    def __init__(
        self, configured: Sequence[Key], opened: Collection[str] = ("metrics", "docs"), model: str = ""
    ) -> None:
        self._configured = [(key.sha256, Grant(key.name, frozenset(key.scopes), key.model)) for key in configured]
        self._opened = frozenset(opened)
        self._model = model
        self._failures = FailureLimit()
        self._stored: tuple[StoredKey, ...] = ()
        self._load(())

    @property
    def configured_names(self) -> set[str]:
        """The names of the keys of the configuration."""
        return {grant.name for _, grant in self._configured}

    def load(self, stored: Sequence[StoredKey]) -> None:
        """Take the keys of the store; what was cached holds no longer where one of them has changed."""
        keys = tuple(replace(key, last_used_at=None) for key in stored)
        if keys != self._stored:
            self._load(keys)

    def _load(self, stored: tuple[StoredKey, ...]) -> None:
        self._stored = stored
        self._keys = list(self._configured)
        for key in stored:
            if key.revoked_at is None:
                expires_at = None if key.expires_at is None else key.expires_at / SECOND
                self._keys.append((key.sha256, Grant(key.name, frozenset(key.scopes), key.model, expires_at)))
        # A store whose last key was revoked stays closed.
        scopes = {scope for _, grant in self._configured for scope in grant.scopes}
        scopes |= {scope for key in stored for scope in key.scopes}
        closed = {"predict", "outcome", "read", "admin"} if scopes else set()
        if scopes and ("metrics" in scopes or "metrics" not in self._opened):
            closed.add("metrics")
        self._closed = frozenset(closed)
        self._by_key: dict[bytes, Grant] = {}
        self._by_bearer: dict[bytes, Grant] = {}

    def take_used(self) -> set[str]:
        """The names of the stored keys that were used since the last call."""
        used = [grant for _, grant in self._keys[len(self._configured) :] if grant.used]
        for grant in used:
            grant.used = False
        return {grant.name for grant in used}

    def guards(self, scope: Scope) -> bool:
        """Tell whether a scope needs a key.

        Every scope does where there are keys; ``metrics`` only once a key has that scope, or ``auth.open`` lacks it.
        """
        return scope in self._closed

    def authorise_docs(self, headers: Mapping[bytes, bytes], client: str = "") -> Grant | None:
        """See whether a caller may read the documentation.

        Everybody may, unless ``auth.open`` lacks ``docs``.
        """
        return None if "docs" in self._opened else self.authorise(headers, "read", client)

    def authorise(self, headers: Mapping[bytes, bytes], scope: Scope, client: str = "") -> Grant | None:
        """The rights of the caller's key; None where none is needed.

        The key is sent as ``X-API-Key`` or ``Authorization: Bearer``.

        Args:
            client: the caller's address, by which wrong keys are counted.

        Raises:
            Unauthenticated: no key, or an unknown one.
            TooManyRequests: no valid key, from an address that has sent too many wrong ones.
            Forbidden: the key lacks the scope; ``admin`` includes every other.
            NotFound: the key is for another model.
        """
        if scope not in self._closed:
            return None
        sent = headers.get(b"x-api-key")
        cache = self._by_key
        if not sent:
            sent, cache = headers.get(b"authorization", b""), self._by_bearer
        grant = cache.get(sent)
        if grant is None:
            key = sent if cache is self._by_key else _bearer(sent)
            grant = self._identify(key, client)
            if len(sent) <= MAX_CACHED_HEADER_BYTES and len(cache) < MAX_CACHED_HEADERS:
                cache[sent] = grant
        if grant.expires_at is not None and grant.expires_at <= time():
            raise self._refusal(client)
        grant.used = True
        if scope not in grant.scopes and "admin" not in grant.scopes:
            raise Forbidden(f"this key lacks the scope {scope}")
        if grant.model is not None and grant.model != self._model:
            raise NotFound("no model that this key is for is served here")
        return grant

    def _identify(self, key: bytes, client: str) -> Grant:
        """The rights of a key.

        Keys are 256 random bits, so a plain SHA-256 keeps them. Every stored hash is compared, and each comparison
        takes the same time wherever it fails.
        """
        if not key:
            self._failures.check(client)
            raise Unauthenticated("send an API key as X-API-Key or Authorization: Bearer")
        digest = hashlib.sha256(key).hexdigest()
        matching = [grant for sha256, grant in self._keys if hmac.compare_digest(sha256, digest)]
        if not matching:
            raise self._refusal(client)
        return matching[0]

    def _refusal(self, client: str) -> Unauthenticated:
        """Count a wrong key, and say that it is unknown."""
        self._failures.check(client)
        self._failures.count(client)
        return Unauthenticated("unknown API key")


MAX_CACHED_HEADERS = 1024
MAX_CACHED_HEADER_BYTES = 256


def _bearer(value: bytes) -> bytes:
    kind, _, key = value.partition(b" ")
    return key.strip() if kind.lower() == b"bearer" else b""
