"""The heartbeat stores a replica's usage; the replica with the lease evaluates the service."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from app.alerting.service.outage import Outage
from app.alerting.service.report import ServiceEvaluation
from app.alerting.service.rollback import AutomaticRollback
from app.alerting.service.usage import Meter
from app.background import PeriodicTask
from app.errors import Unavailable
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries.alerts import Silence, planned_silences
from app.store.queries.replicas import acquire, beat, database_now, release
from app.store.queries.reports import ReportListener
from app.types import SECOND, Micros, VersionSource

LEASE = "watch"
"""The name in the table ``leases``; earlier releases hold the lease by it, so it stays."""
TICK_S = 2.0
"""Time between two ticks, and so between two looks at a version on probation."""
BEAT_S = 10.0
"""Time between two stored pulses, and between two evaluations of the service."""


class Heartbeat:
    """Stores the usage of this replica; with the lease it evaluates the service."""

    def __init__(
        self,
        *,
        meter: Meter,
        outage: Outage,
        evaluation: ServiceEvaluation,
        rollback: AutomaticRollback,
        versions: VersionSource,
        journal: Journal,
        readers: Readers,
        listener: ReportListener,
    ) -> None:
        self._meter = meter
        self._outage = outage
        self._evaluation = evaluation
        self._rollback = rollback
        self._versions = versions
        self._journal = journal
        self._readers = readers
        self._listener = listener
        self._beat_at = Micros(0)
        self._log = structlog.get_logger("heartbeat")
        self.task = PeriodicTask("heartbeat", self._turn, interval_s=TICK_S, store_away="warn", log=self._log)

    async def stop(self) -> None:
        """Stop and release the lease, so that another replica can take it at once."""
        await self.task.stop(grace_s=0)
        await self._rollback.stop()
        if not self.task.started:
            return
        with suppress(Unavailable):
            await self._journal.run(partial(release, name=LEASE, holder=self._meter.replica))

    async def tick(self, clock: Micros, *, now: Micros) -> None:
        """Count usage and observe the store; every ten seconds store a pulse and evaluate.

        A version on probation is checked at each tick.

        Args:
            clock: a clock that never jumps, for durations.
            now: the wall clock, for messages.

        Raises:
            Unavailable: the store cannot be reached.
        """
        self._meter.read(clock)
        self._outage.observe(self._journal.outage, self._versions.served().active, clock, now=now)
        await self._record_outages(clock)
        probation = None if self._outage.ongoing else await self._rollback.find()
        beats = clock >= self._beat_at
        if not (beats or probation):
            return
        if beats:
            self._beat_at = Micros(clock + round(BEAT_S * SECOND))
        leading = await self._beat(clock)
        if probation:
            await self._rollback.check(probation, clock)
        if beats:
            self._outage.silences = await self._readers.run(_silences)
        if leading and beats:
            await self._evaluation.run()

    async def _turn(self) -> None:
        await self.tick(monotonic_now(), now=Micros(time.time_ns() // 1000))

    async def _record_outages(self, clock: Micros) -> None:
        """Record the outages that have ended; drop one that cannot be recorded."""
        while self._outage.ended:
            record = partial(
                self._outage.record,
                outage=self._outage.ended[0],
                listener=self._listener,
                served=self._versions.served(),
                clock=clock,
            )
            try:
                await self._journal.run(record)
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - logged; the channels were notified when it fired
                self._log.exception("outage_not_written", exc_info=error)
            self._outage.ended.popleft()

    async def _beat(self, clock: Micros) -> bool:
        """Store the pulses and take or renew the lease; True where this replica holds it."""
        pulses = self._meter.pulses()

        def write(connection: Connection) -> bool:
            beat(connection, pulses, clock=clock)
            return acquire(connection, LEASE, self._meter.replica, seconds=3 * BEAT_S) is not None

        leading = await self._journal.run(write)
        self._meter.noted()
        return leading


def monotonic_now() -> Micros:
    """The time by a clock that never jumps."""
    return Micros(time.monotonic_ns() // 1000)


def _silences(connection: Connection) -> Sequence[Silence]:
    return planned_silences(connection, at=database_now(connection))
