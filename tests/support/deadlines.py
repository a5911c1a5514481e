"""Waits for a condition: a test never waits for a length of time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

DEADLINE_S = 600.0
"""Longest wait for what must come. It matters only where something is broken, on a slow and busy machine too."""
LOOK_EVERY_S = 0.02


def wait_until(met: Callable[[], object], about: Callable[[], object] = lambda: "") -> None:
    """Return as soon as a condition is true.

    Args:
        about: what the failure says where the condition never comes true.
    """
    end = time.monotonic() + DEADLINE_S
    while not met():
        assert time.monotonic() < end, about()
        time.sleep(LOOK_EVERY_S)


async def until(met: Callable[[], object]) -> None:
    """Return as soon as a condition is true, and let the event loop turn meanwhile."""
    end = time.monotonic() + DEADLINE_S
    while not met():
        assert time.monotonic() < end
        await asyncio.sleep(LOOK_EVERY_S)
