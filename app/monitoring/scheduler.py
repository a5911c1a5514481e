"""The scheduler: one named, watched task; of all replicas, the one that holds the lease runs the checks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog

from app.errors import Unavailable
from app.store.journal.journal import Journal
from app.store.queries import replicas
from app.types import new_id

LEASE = "monitor"
LEASE_TICKS = 3
"""Ticks that a lease lasts: a holder that misses so many is gone."""
Job = Callable[[], Awaitable[object]]


class Scheduler:
    """Calls its jobs at every tick while it holds the lease. Missed ticks collapse into one."""

    def __init__(self, journal: Journal, jobs: tuple[Job, ...], *, tick_s: float) -> None:
        self._journal = journal
        self._jobs = jobs
        self._tick_s = tick_s
        self._holder = new_id()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("scheduler")

    @property
    def alive(self) -> bool:
        """False once the task has ended."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start ticking."""
        self._task = asyncio.create_task(self._run(), name="plumbline-scheduler")

    async def stop(self) -> None:
        """Stop, and give the lease up so that another replica need not wait for its end."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        try:
            await self._journal.run(partial(replicas.release, name=LEASE, holder=self._holder))
        except Unavailable:
            self._log.warning("lease_not_released", reason="the store cannot be reached; it ends by itself")

    async def tick(self) -> bool:
        """One turn: take or renew the lease and run the jobs; False where another replica holds it.

        Raises:
            Unavailable: the store cannot be reached; a job that fails otherwise is logged, and the next one runs.
        """
        if not await self._hold():
            return False
        keeping = asyncio.create_task(self._keep(), name="plumbline-lease")
        try:
            for job in self._jobs:
                await self._try(job)
        finally:
            keeping.cancel()
        return True

    async def _try(self, job: Job) -> None:
        try:
            await job()
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the jobs behind it are no part of it
            self._log.exception("job_failed", exc_info=error)

    async def _hold(self) -> bool:
        """Take or renew the lease."""
        seconds = self._tick_s * LEASE_TICKS
        acquire = partial(replicas.acquire, name=LEASE, holder=self._holder, seconds=seconds)
        return await self._journal.run(acquire) is not None

    async def _keep(self) -> None:
        """Renew the lease while the jobs run: a long check must not let another replica begin the same."""
        while True:
            await asyncio.sleep(self._tick_s)
            with suppress(Unavailable):
                await self._hold()

    async def _run(self) -> None:
        while True:
            try:
                await self.tick()
            except Unavailable as error:
                self._log.warning("tick_skipped", reason=str(error))
            except Exception as error:  # noqa: BLE001 - a job that fails is logged, and the next tick comes
                self._log.exception("tick_failed", exc_info=error)
            await asyncio.sleep(self._tick_s)
