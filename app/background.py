"""Background work: tasks that take turns until they are stopped, and daemon threads."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TypeVar

import structlog

from app.errors import Unavailable

STOP_S = 1.0
"""How long the end of the process waits for a turn that has begun."""


class Polling(ABC):
    """Takes a turn at once when woken, else after ``pause_s``. Start and stop it in one event loop."""

    def __init__(self, name: str, *, pause_s: float) -> None:
        self._name = name
        self._pause_s = pause_s
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("delivery").bind(channel=name)

    @property
    def alive(self) -> bool:
        """False once the task has ended."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start taking turns."""
        self._task = asyncio.create_task(self._run(), name=f"plumbline-delivery-{self._name}")

    def wake(self) -> None:
        """Take the next turn now."""
        self._woken.set()

    async def stop(self) -> None:
        """Take no more turns; one that has begun has a moment to end."""
        if self._task is None:
            return
        self._stopping = True
        self.wake()
        await asyncio.wait([self._task], timeout=STOP_S)
        self._task.cancel()
        await asyncio.wait([self._task])

    @abstractmethod
    async def turn(self) -> bool:
        """Do what there is; True: there may be more.

        Raises:
            Unavailable: the store cannot be reached.
        """

    async def _run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            if not await self._turn():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), self._pause_s)

    async def _turn(self) -> bool:
        try:
            return await self.turn()
        except Unavailable:
            return False
        except Exception as error:  # noqa: BLE001 - logged, and the next turn comes
            self._log.exception("delivery_failed", exc_info=error)
            return False


class Delivery:
    """The tasks of all channels, together."""

    def __init__(self, tasks: Sequence[Polling]) -> None:
        self._tasks = tasks

    @property
    def alive(self) -> bool:
        """False once one of the tasks has ended."""
        return all(task.alive for task in self._tasks)

    def start(self) -> None:
        """Start all."""
        for task in self._tasks:
            task.start()

    async def wake(self) -> None:
        """Let all look at once: there is something to tell."""
        for task in self._tasks:
            task.wake()

    async def stop(self) -> None:
        """Stop all at the same time."""
        await asyncio.gather(*(task.stop() for task in self._tasks))


Result = TypeVar("Result")
LEAVE_S = 5.0
"""How long the end of the process waits for a load that has begun."""


async def run_in_daemon_thread(act: Callable[[], Result]) -> Result:
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
