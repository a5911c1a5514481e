"""One timer for the deadlines of all calls: a timer for each would cost more than the rest of its call."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Watch:
    """One call under watch; ``expired`` once it has been cancelled for taking too long."""

    until: float
    task: asyncio.Task[object] | None
    expired: bool = False


class Deadlines:
    """Cancels the tasks that run longer than ``seconds``; as all have the same time, the first in is the first out."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watches: deque[Watch] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # kept: asyncio asks the system for it, each time

    def enter(self) -> Watch:
        """Watch the current task from now on."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        watch = Watch(loop.time() + self._seconds, asyncio.current_task(loop))
        self._watches.append(watch)
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._sweep, loop)
        return watch

    def leave(self, watch: Watch) -> None:
        """The call is answered."""
        watch.task = None
        self._forget_answered()

    def _forget_answered(self) -> None:
        while self._watches and self._watches[0].task is None:
            self._watches.popleft()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what has expired, and come back for the next."""
        now = loop.time()
        while self._watches and self._watches[0].until <= now:
            watch = self._watches.popleft()
            if watch.task is not None:
                watch.expired = True
                watch.task.cancel()
        self._forget_answered()
        self._timer = loop.call_at(self._watches[0].until, self._sweep, loop) if self._watches else None
