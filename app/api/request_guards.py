"""Refuse requests before they are read: by their key or session, and by their number."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from time import monotonic, time

from app.config.fields import Limits
from app.config.settings import Key, Scope
from app.errors import Forbidden, NotFound, TooManyRequests, Unauthenticated
from app.store.queries.keys import StoredKey
from app.types import SECOND

MAX_FAILURES = 20
"""Wrong keys that an address may send within ``FAILURE_WINDOW_S``."""
FAILURE_WINDOW_S, MAX_ADDRESSES = 60.0, 4096
"""Addresses whose wrong keys are remembered; the one that failed the longest ago is forgotten first."""


class FailureLimit:
    """Counts the wrong keys of each address, in bounded memory.

    A right key is taken from every address: one caller behind a proxy cannot lock out the others.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, client: str) -> None:
        """See whether a caller without a valid key may be told so once more.

        Raises:
            TooManyRequests: its address has sent too many wrong keys; with the time to wait.
        """
        failures = self._failures.get(_site(client))
        if failures is None or len(failures) < MAX_FAILURES:
            return
        wait_s = failures[0] + FAILURE_WINDOW_S - self._clock()
        if wait_s > 0:
            raise TooManyRequests("too many wrong API keys from this address", math.ceil(wait_s))

    def count(self, client: str) -> None:
        """Count one wrong key."""
        self._failures.setdefault(_site(client), deque(maxlen=MAX_FAILURES)).append(self._clock())
        self._failures.move_to_end(_site(client))
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)


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


SESSION_COOKIE = "plumbline_session"
SESSION_S = 12 * 3600
"""How long a sign-in lasts."""
MAX_SESSIONS = 4096
MAX_SESSIONS_OF_KEY = 256
"""Sign-ins that are kept; the oldest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in: the hash of its key, and when it ends, in seconds since the epoch."""

    key_sha256: str
    expires_at: float


class Sessions:
    """Keeps who has signed in on the page, in this process.

    A browser gets a random token in a cookie that no script can read. Here are the hashes of token and key alone, so
    that a revoked key ends its sessions.
    """

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def open(self, key: bytes) -> str:
        """Begin a session with a key, and give its token."""
        token = secrets.token_urlsafe(32)
        session = Session(hashlib.sha256(key).hexdigest(), self._clock() + SESSION_S)
        self._sessions[hashlib.sha256(token.encode()).hexdigest()] = session
        of_key = [name for name, other in self._sessions.items() if other.key_sha256 == session.key_sha256]
        if len(of_key) > MAX_SESSIONS_OF_KEY:
            del self._sessions[of_key[0]]
        elif len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def find(self, cookie: bytes) -> Session | None:
        """The session of a ``Cookie`` header; None where there is none that lasts."""
        digest = _token_digest(cookie)
        session = self._sessions.get(digest)
        if session is not None and session.expires_at <= self._clock():
            del self._sessions[digest]
            return None
        return session

    def close(self, cookie: bytes) -> None:
        """End a session."""
        self._sessions.pop(_token_digest(cookie), None)


def _token_digest(cookie: bytes) -> str:
    """The hash of the token in a ``Cookie`` header.

    >>> _token_digest(b"a=1; plumbline_session=t") == hashlib.sha256(b"t").hexdigest()
    True
    """
    pairs = (pair.strip().partition(b"=") for pair in cookie.split(b";"))
    token = next((value for name, _, value in pairs if name == SESSION_COOKIE.encode()), b"")
    return hashlib.sha256(token).hexdigest()


class Keyring:
    """All keys, those of the configuration and those of the store.

    Without any, everybody may do everything. A key is hashed and compared once for each version of the keyring, and
    then found by its header. Call it in one thread.

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
        self.sessions = Sessions()
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

        The key is sent as ``X-API-Key`` or ``Authorization: Bearer``, or stands for a session in a cookie.

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
            grant = self._identify(key, client) if key else self._of_session(headers, client)
            if key and len(sent) <= MAX_CACHED_HEADER_BYTES and len(cache) < MAX_CACHED_HEADERS:
                cache[sent] = grant
        self._admit(grant, scope, client)
        return grant

    def _admit(self, grant: Grant, scope: str, client: str) -> None:
        if grant.expires_at is not None and grant.expires_at <= time():
            raise self._refusal(client)
        grant.used = True
        if scope not in grant.scopes and "admin" not in grant.scopes:
            raise Forbidden(f"this key lacks the scope {scope}")
        if grant.model is not None and grant.model != self._model:
            raise NotFound("no model that this key is for is served here")

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

    def sign_in(self, key: bytes, client: str) -> tuple[str, Grant]:
        """Begin a session with a key: its token and its rights.

        Raises:
            Unauthenticated, TooManyRequests, Forbidden, NotFound: see :meth:`authorise`. The page reads all it shows.
        """
        grant = self._identify(key, client)
        self._admit(grant, "read", client)
        return self.sessions.open(key), grant

    def signed_in(self, headers: Mapping[bytes, bytes]) -> Grant | None:
        """The rights of the caller's session; None where there is none, or its key has ended."""
        session = self.sessions.find(headers.get(b"cookie", b""))
        if session is None:
            return None
        of_key = (grant for sha256, grant in self._keys if hmac.compare_digest(sha256, session.key_sha256))
        grant = next(of_key, None)
        return None if grant is None or (grant.expires_at or float("inf")) <= time() else grant

    def _of_session(self, headers: Mapping[bytes, bytes], client: str) -> Grant:
        """The rights of the caller's session, looked up each time: it may have ended."""
        return self.signed_in(headers) or self._identify(b"", client)

    def _refusal(self, client: str) -> Unauthenticated:
        """Count a wrong key, and say that it is unknown."""
        self._failures.check(client)
        self._failures.count(client)
        return Unauthenticated("unknown API key")


MAX_CACHED_HEADERS = 1024
MAX_CACHED_HEADER_BYTES = 256


def sends_key(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a request has a key in a header.

    The password of a proxy, which a browser sends along by itself, is none.

    >>> sends_key({b"authorization": b"Bearer k"}), sends_key({b"authorization": b"Basic YTpi"}), sends_key({})
    (True, False, False)
    """
    return bool(headers.get(b"x-api-key") or _bearer(headers.get(b"authorization", b"")))


def _bearer(value: bytes) -> bytes:
    kind, _, key = value.partition(b" ")
    return key.strip() if kind.lower() == b"bearer" else b""


MAX_CALLERS = 10_000
"""Buckets of callers of one kind in one period; all callers beyond share one."""
IPV6_SITE_BITS = 64
"""Bits of an IPv6 address that its owner does not choose."""


class RateLimits:
    """The limits of the section ``limits``, by address and by key; None limits nothing."""

    def __init__(self, limits: Limits) -> None:
        by_address, by_key = limits.requests_per_second_per_address, limits.requests_per_second_per_key
        self.addresses = None if by_address is None else TokenBuckets(by_address)
        self.keys = None if by_key is None else TokenBuckets(by_key)

    def count_address(self, address: str, now: float) -> None:
        """Count a request of an address; an IPv6 one counts as all of its /64.

        Raises:
            TooManyRequests: it has asked too often.
        """
        if self.addresses is not None and (wait := self.addresses.take(_site(address), now)):
            raise _refusal("address", "requests_per_second_per_address", wait)

    def count_key(self, name: str | None, now: float) -> None:
        """Count a request with a key, see :meth:`count_address`; none counts by its address alone."""
        if self.keys is not None and name is not None and (wait := self.keys.take(name, now)):
            raise _refusal("key", "requests_per_second_per_key", wait)


class TokenBuckets:
    """Keeps a bucket for each caller.

    ``rate`` tokens come each second, up to what one second brings, and at least one. To be used in one thread.
    """

    def __init__(self, rate: float, most: int = MAX_CALLERS) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._period = self._size / rate
        self._most = most
        self._buckets: dict[str, tuple[float, float]] = {}
        self._before: dict[str, tuple[float, float]] = {}
        self._since = -math.inf

    def __len__(self) -> int:
        """The number of buckets that are kept."""
        return len(self._buckets) + len(self._before)

    def take(self, caller: str, now: float) -> float:
        """Take a token at this time; the seconds until there is one, 0 where there was.

        >>> buckets = TokenBuckets(2.0)
        >>> [buckets.take("a", now) for now in (0.0, 0.0, 0.0, 0.5)]
        [0.0, 0.0, 0.5, 0.0]
        """
        if now - self._since >= self._period:
            # What lies there longer than two periods is full.
            self._before = self._buckets if now - self._since < 2 * self._period else {}
            self._buckets, self._since = {}, now
        if caller not in self._buckets and len(self._buckets) >= self._most:
            caller = ""
        tokens, at = self._buckets.get(caller) or self._before.get(caller) or (self._size, now)
        tokens = min(self._size, tokens + max(0.0, now - at) * self._rate)
        enough = tokens >= 1.0 - 1e-9
        self._buckets[caller] = (tokens - enough, max(now, at))
        return 0.0 if enough else (1.0 - tokens) / self._rate


def _site(address: str) -> str:
    """The part of an address that its caller cannot choose.

    >>> _site("2001:db8::7") == _site("2001:db8::8"), _site("10.0.0.7"), _site("::ffff:10.0.0.7")
    (True, '10.0.0.7', '10.0.0.7')
    """
    with suppress(ValueError):
        return str((site := IPv6Address(address)).ipv4_mapped or int(site) >> (128 - IPV6_SITE_BITS))
    return address


def _refusal(whose: str, setting: str, wait: float) -> TooManyRequests:
    return TooManyRequests(f"this {whose} asks more often than limits.{setting} allows", math.ceil(wait))
