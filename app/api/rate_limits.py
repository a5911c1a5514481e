"""Limit the requests of one key and of one address, by token buckets.

A bucket holds what one second allows. One that nobody has used for as long as it takes to fill is full, so it can be
forgotten: memory grows with the callers of the last seconds alone, and up to a bound.
"""

from __future__ import annotations

import math
from ipaddress import IPv6Address
from threading import Lock

from app.config.settings import Limits
from app.errors import TooManyRequests

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
