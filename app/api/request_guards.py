"""Refuse requests before they are read: by their host, their origin, and their number.

A page can point its own name at 127.0.0.1 (DNS rebinding), and then its scripts may read what that address answers. Its
requests carry its name as ``Host``. A page can also post to any address without reading the answer; the browser then
says where the page is from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from threading import Lock
from urllib.parse import urlsplit

from app.api.keyring import Keyring
from app.config.settings import Limits, Server
from app.errors import Forbidden, TooManyRequests, UntrustedHost

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEALTH = "/health/"
"""Paths that an orchestrator asks by the address of a container; they hold no data."""
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
        has_key = b"x-api-key" in headers or b"authorization" in headers
        host = headers.get(b"host", b"")
        if host not in self._known:
            exempt = self._any_with_keys or has_key or path.startswith(HEALTH)
            if not (exempt and self._keyring.guards("read")):
                self._check_host(host)
        if method not in SAFE_METHODS and not has_key and (b"origin" in headers or b"sec-fetch-site" in headers):
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


MAX_CALLERS = 10_000
"""Buckets of callers of one kind in one period; all callers beyond share one."""
IPV6_SITE_BITS = 64
"""Bits of an IPv6 address that its owner does not choose."""


class RateLimits:
    """The limits of the section ``limits``; null limits nothing and costs nothing."""

    def __init__(self, limits: Limits) -> None:
        by_address, by_key = limits.requests_per_second_per_address, limits.requests_per_second_per_key
        self._addresses = None if by_address is None else TokenBuckets(by_address)
        self._keys = None if by_key is None else TokenBuckets(by_key)

    def count_address(self, address: str, now: float) -> None:
        """Count a request of an address; an IPv6 one counts as all of its /64.

        Raises:
            TooManyRequests: it has asked too often.
        """
        if self._addresses is not None and (wait := self._addresses.take(_site(address), now)):
            raise _refusal("address", "requests_per_second_per_address", wait)

    def count_key(self, name: str | None, now: float) -> None:
        """Count a request with a key; None, no key, counts by its address alone.

        Raises:
            TooManyRequests: it has asked too often.
        """
        if self._keys is not None and name is not None and (wait := self._keys.take(name, now)):
            raise _refusal("key", "requests_per_second_per_key", wait)


class TokenBuckets:
    """Keeps a bucket for each caller.

    ``rate`` tokens come each second, up to what one second brings, and at least one.
    """

    def __init__(self, rate: float, most: int = MAX_CALLERS) -> None:
        self._rate = rate
        self._size = max(1.0, rate)
        self._period = self._size / rate
        self._most = most
        self._lock = Lock()
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
        with self._lock:
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
    """Give the part of an address that its caller cannot choose.

    >>> _site("2001:db8::7") == _site("2001:db8::8"), _site("10.0.0.7")
    (True, '10.0.0.7')
    """
    if ":" not in address:
        return address
    try:
        return str(int(IPv6Address(address)) >> (128 - IPV6_SITE_BITS))
    except ValueError:
        return address


def _refusal(whose: str, setting: str, wait: float) -> TooManyRequests:
    return TooManyRequests(f"this {whose} asks more often than limits.{setting} allows", math.ceil(wait))
