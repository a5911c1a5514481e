"""Ids that sort by time (UUID version 7, RFC 9562), so that the primary key's index grows at its end only."""

from __future__ import annotations

import re
from random import getrandbits
from time import time_ns

PREDICTION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a caller may choose as ``prediction_id``."""


def new_id(now_ns: int | None = None) -> str:
    """A fresh UUIDv7; ``now_ns`` is the time in nanoseconds since the epoch, by default the clock's.

    The 12 bits after the milliseconds carry their fraction (RFC 9562, method 3), so that ids made within one
    millisecond still sort nearly in the order in which they were made.

    >>> new_id(1_700_000_000_000_000_000)[:15]
    '018bcfe5-6800-7'
    """
    milliseconds, rest = divmod(time_ns() if now_ns is None else now_ns, 1_000_000)
    high, low = f"{milliseconds:012x}", f"{getrandbits(62) | 0x8000_0000_0000_0000:016x}"
    return f"{high[:8]}-{high[8:]}-7{(rest << 12) // 1_000_000:03x}-{low[:4]}-{low[4:]}"
