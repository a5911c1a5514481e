"""Ids that sort by time (UUID version 7, RFC 9562), so that the primary key's index grows at its end only."""

from __future__ import annotations

import re
from random import getrandbits
from time import time_ns

PREDICTION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a caller may choose as ``prediction_id``."""
_LEADING_ONE = 1 << 64
"""Keeps the leading zeros of 64 bits in their hexadecimal form."""


def new_id(now_ns: int | None = None) -> str:
    """A fresh UUIDv7; ``now_ns`` is the time in nanoseconds since the epoch, by default the clock's.

    The 12 bits after the milliseconds carry their fraction (RFC 9562, method 3), so that ids made within one
    millisecond still sort nearly in the order in which they were made.

    >>> new_id(1_700_000_000_000_000_000)[:15]
    '018bcfe5-6800-7'
    """
    milliseconds, rest = divmod(time_ns() if now_ns is None else now_ns, 1_000_000)
    high = hex(_LEADING_ONE | milliseconds << 16 | 0x7000 | (rest << 12) // 1_000_000)
    low = hex(getrandbits(62) | 0x8000_0000_0000_0000)
    return f"{high[3:11]}-{high[11:15]}-{high[15:]}-{low[2:6]}-{low[6:]}"
