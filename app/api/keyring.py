"""The keys that callers are let in by, and a limit to the wrong ones."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic, time

from app.config.settings import Key, Scope
from app.errors import Forbidden, NotFound, TooManyRequests, Unauthenticated
from app.store.queries.keys import StoredKey
from app.types import SECOND

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
