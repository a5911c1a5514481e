"""The scheduler runs its jobs at every tick, in the replica that holds the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import structlog

from app.background import PeriodicTask, start_work
from app.errors import Unavailable
from app.store.journal.journal import Journal
from app.store.queries import replicas
from app.types import new_id

LEASE = "monitor"
LEASE_TICKS = 3
"""The lease lasts for so many ticks. A holder that misses them all has lost it."""


class Job(NamedTuple):
    """Work for each tick, with its name in the log."""

    name: str
    run: Callable[[], Awaitable[object]]


class Scheduler:
    """Runs its jobs, one after the other, at every tick while it holds the lease."""

    def __init__(self, journal: Journal, jobs: Sequence[Job], *, tick_s: float) -> None:
        self._journal = journal
        self._jobs = jobs
        self._tick_s = tick_s
        self._holder = new_id()
        self._log = structlog.get_logger("scheduler")
        self.task = PeriodicTask("scheduler", self.tick, interval_s=tick_s, store_away="warn", log=self._log)

    async def stop(self) -> None:
        """Stop and release the lease, so that another replica can take it at once."""
        if not self.task.started:
            return
        await self.task.stop(grace_s=0)
        try:
            await self._journal.run(partial(replicas.release, name=LEASE, holder=self._holder))
        except Unavailable:
            self._log.warning("lease_not_released", reason="the store cannot be reached; the lease ends by itself")

    async def tick(self) -> None:
        """Take or renew the lease and run the jobs; run none where another replica holds the lease.

        A job that fails is logged, and the next one runs.

        Raises:
            Unavailable: the store cannot be reached.
        """
        if not await self._acquire_lease():
            return
        renewing = start_work("lease", self._renew_lease())
        try:
            for job in self._jobs:
                await self._run(job)
        finally:
            renewing.cancel()

    async def _run(self, job: Job) -> None:
        try:
            await job.run()
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a job that fails must not keep the others from running
            self._log.exception("job_failed", job=job.name, exc_info=error)

    async def _acquire_lease(self) -> bool:
        """Take or renew the lease; False where another replica holds it."""
        seconds = self._tick_s * LEASE_TICKS
        acquire = partial(replicas.acquire, name=LEASE, holder=self._holder, seconds=seconds)
        return await self._journal.run(acquire) is not None

    async def _renew_lease(self) -> None:
        """Renew the lease while the jobs run.

        Else another replica could begin the same check.
        """
        while True:
            await asyncio.sleep(self._tick_s)
            with suppress(Unavailable):
                await self._acquire_lease()
