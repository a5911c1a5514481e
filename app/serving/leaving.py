"""A load runs in a thread that the process does not wait for: a disk that hangs must not keep it from its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")
LEAVE_S = 5.0
"""How long the end of the process waits for a load that has begun."""


async def in_thread(act: Callable[[], Result]) -> Result:
    """What an act gives, which runs in a thread of its own; asyncio's threads would have to end before the process."""
    given: Future[Result] = Future()
    given.set_running_or_notify_cancel()

    def run() -> None:
        try:
            given.set_result(act())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            given.set_exception(error)

    Thread(target=run, name="plumbline-loading", daemon=True).start()
    waiting = asyncio.wrap_future(given)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await asyncio.wait([waiting], timeout=LEAVE_S)
        raise
