"""The watch: a task in every replica that tells the others what it did; one of them judges the service as a whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from app.alerting.service.outage import AfterReport, Outage
from app.alerting.service.report import Judging
from app.alerting.service.rollback import Guard
from app.alerting.service.usage import Meter
from app.errors import Unavailable
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries.alerts import Silence, planned_silences
from app.store.queries.replicas import acquire, beat, database_now, release
from app.types import SECOND, Micros

LEASE = "watch"
TICK_S = 2.0
"""Length of a step, and time between two looks at a version on probation."""
BEAT_S = 10.0
"""Time between two pulses, and between two judgements."""


class Watch:
    """Beats, judges where it holds the lease, and lets the guard look at a version on probation."""

    def __init__(
        self,
        *,
        meter: Meter,
        outage: Outage,
        judging: Judging,
        guard: Guard,
        journal: Journal,
        readers: Readers,
        after: AfterReport,
    ) -> None:
        self._meter = meter
        self._outage = outage
        self._judging = judging
        self._guard = guard
        self._journal = journal
        self._readers = readers
        self._after = after
        self._beat_at = Micros(0)
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("watch")

    @property
    def alive(self) -> bool:
        """False once the task has ended."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Start ticking."""
        self._task = asyncio.create_task(self._run(), name="plumbline-watch")

    async def stop(self) -> None:
        """Tick no more, and let another replica judge at once."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._guard.stop()
        with suppress(Unavailable):
            await self._journal.run(partial(release, name=LEASE, holder=self._meter.replica))

    async def tick(self, clock: Micros, *, now: Micros) -> None:
        """One turn: count, tell of an outage, beat, and judge whatever is to be judged.

        Args:
            clock: a clock that never jumps, for lengths of time.
            now: the wall clock, for messages.

        Raises:
            Unavailable: the store cannot be reached.
        """
        self._meter.read(clock)
        self._outage.look(clock, now=now)
        await self._write_outages(clock)
        trial = None if self._outage.lasts else await self._guard.find()
        beats = clock >= self._beat_at
        if not (beats or trial):
            return
        if beats:
            self._beat_at = Micros(clock + round(BEAT_S * SECOND))
        leading = await self._beat(clock)
        if trial:
            await self._guard.judge(trial, clock)
        if beats:
            self._outage.silences = await self._readers.run(_silences)
        if leading and beats:
            await self._judging.judge()

    async def _write_outages(self, clock: Micros) -> None:
        """Write down the outages that are over; one that cannot be written must not end the pulse."""
        while self._outage.over:
            write = partial(self._outage.write, over=self._outage.over[0], after=self._after, clock=clock)
            try:
                await self._journal.run(write)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - logged; everybody has heard that it fired
                self._log.exception("outage_not_written", exc_info=error)
            self._outage.over.popleft()

    async def _beat(self, clock: Micros) -> bool:
        """Store what this replica did, and take or renew the lease; whether this replica is the one that judges."""
        pulses = self._meter.pulses()

        def write(connection: Connection) -> bool:
            beat(connection, pulses, clock=clock)
            return acquire(connection, LEASE, self._meter.replica, seconds=3 * BEAT_S) is not None

        leading = await self._journal.run(write)
        self._meter.noted()
        return leading

    async def _run(self) -> None:
        while True:
            try:
                await self.tick(clock(), now=Micros(time.time_ns() // 1000))
            except Unavailable as error:
                self._log.warning("watch_skipped", reason=str(error))
            except Exception as error:  # noqa: BLE001 - a turn that fails is logged, and the next one comes
                self._log.exception("watch_failed", exc_info=error)
            await asyncio.sleep(TICK_S)


def clock() -> Micros:
    """A clock that never jumps."""
    return Micros(time.monotonic_ns() // 1000)


def _silences(connection: Connection) -> Sequence[Silence]:
    return planned_silences(connection, at=database_now(connection))
