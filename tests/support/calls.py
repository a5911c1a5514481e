"""The work of a piece of Python, in calls: unlike seconds, they are the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def count_calls(act: Callable[[], object], set_profile: Callable[[Any], object] = sys.setprofile) -> int:
    """The number of calls that an act makes, of functions in Python and in C.

    Args:
        set_profile: sets the profile function of the thread in which the act runs; by default it is this one.
    """
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    set_profile(count)
    try:
        act()
    finally:
        set_profile(None)
    return calls
