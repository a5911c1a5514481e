"""Ids that sort by time (UUID version 7, RFC 9562), so that the primary key's index grows at its end only."""

from __future__ import annotations

import re
import time
from random import getrandbits

PREDICTION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a caller may choose as ``prediction_id``."""


def new_id(now_ns: int | None = None) -> str:
    """A fresh UUIDv7; ``now_ns`` is the time in nanoseconds since the epoch, by default the clock's.

    The 12 bits after the milliseconds carry their fraction (RFC 9562, method 3), so that ids made within one
    millisecond still sort nearly in the order in which they were made.

    >>> new_id(1_700_000_000_000_000_000)[:15]
    '018bcfe5-6800-7'
    """
    milliseconds, rest = divmod(time.time_ns() if now_ns is None else now_ns, 1_000_000)
    tail = getrandbits(62) | 0x8000_0000_0000_0000
    text = f"{milliseconds:012x}7{rest * 4096 // 1_000_000:03x}{tail:016x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
