"""The watch: a task in every replica that tells the others what it did; one of them judges the service as a whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from app.alerting.evaluation import judge_beats
from app.alerting.meter import Meter
from app.alerting.outage import AfterReport, Outage
from app.alerting.probation import Trial, find_trial, judge_trial
from app.alerting.ruleset import RuleSet
from app.alerting.service_report import Overdue, end_of_earlier, read_service, says_more
from app.errors import RequestError, Unavailable
from app.store import reports
from app.store.engine import Connection
from app.store.journal import Journal
from app.store.leases import acquire, database_now, release
from app.store.pulses import beat
from app.store.readers import Readers
from app.store.silences import Silence, planned
from app.types import SECOND, Json, Micros, ModelSchema, Report

LEASE = "watch"
TICK_S = 2.0
"""Length of a step, and time between two looks at a version on probation."""
BEAT_S = 10.0
"""Time between two pulses, and between two judgements."""
RETRY_S = 30.0
"""After a rollback that failed."""
Rollback = Callable[[Trial, Json], Awaitable[object]]
"""Rolls a version on probation back, with the evidence."""


class Watch:
    """Beats, judges where it holds the lease, and rolls back a version that does not stand its probation."""

    def __init__(
        self,
        *,
        meter: Meter,
        outage: Outage,
        journal: Journal,
        readers: Readers,
        schema: Callable[[], ModelSchema],
        overdue: Overdue,
        after: AfterReport,
        rollback: Rollback,
        probation_s: float,
        rules: RuleSet | None = None,
    ) -> None:
        self._meter = meter
        self._outage = outage
        self._journal = journal
        self._readers = readers
        self._schema = schema
        self._overdue = overdue
        self._after = after
        self._rollback = rollback
        self._probation_s = probation_s
        self._rules = rules or RuleSet()
        self._beat_at = Micros(0)
        self._rollback_at = Micros(0)
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
        if self._outage.over:
            await self._journal.run(partial(self._outage.write, after=self._after))
            self._outage.over = None
        trial = None if self._outage.lasts else await self._find_trial()
        beats = clock >= self._beat_at
        if not (beats or trial):
            return
        if beats:
            self._beat_at = Micros(clock + round(BEAT_S * SECOND))
        leading = await self._beat(clock)
        if trial:
            await self._try(trial, clock)
        if beats:
            self._outage.silences = await self._readers.run(_silences)
        if leading and beats:
            await self._judge()

    async def _find_trial(self) -> Trial | None:
        return await self._readers.run(find_trial, self._schema().name, seconds=self._probation_s)

    async def _beat(self, clock: Micros) -> bool:
        """Store what this replica did, and take or renew the lease; whether this replica is the one that judges."""
        pulses = self._meter.pulses()

        def write(connection: Connection) -> bool:
            beat(connection, pulses, clock=clock)
            return acquire(connection, LEASE, self._meter.replica, seconds=3 * BEAT_S) is not None

        leading = await self._journal.run(write)
        self._meter.noted()
        return leading

    async def _try(self, trial: Trial, clock: Micros) -> None:
        """Roll the version on probation back, if it must be; of several replicas that see it, one is the first."""
        evidence = await self._readers.run(judge_trial, trial) if clock >= self._rollback_at else None
        if evidence is None:
            return
        self._log.error("probation_failed", **evidence)
        try:
            await self._rollback(trial, evidence)
        except Unavailable:
            raise
        except RequestError as error:  # it is not there, refused, or somebody was quicker
            self._rollback_at = Micros(clock + round(RETRY_S * SECOND))
            self._log.warning("not_rolled_back", version=trial.version, reason=str(error))
            return
        await self._judge()

    async def _judge(self) -> None:
        """Judge the service; reports are saved where an alert is to change by them."""
        found = await self._readers.run(self._read)
        if not found:
            return

        def save(connection: Connection) -> None:
            for report in found:
                reports.save(connection, report)
                self._after(connection, report)

        await self._journal.run(save)
        self._log.info("service_judged", status=found[-1].status, report_id=found[-1].report_id)

    def _read(self, connection: Connection) -> Sequence[Report]:
        report = read_service(connection, self._schema(), self._overdue)
        if ended := end_of_earlier(connection, report):
            return [ended, report]
        return [report] if says_more(connection, report, judge_beats(connection, report, self._rules)) else []

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
    return planned(connection, at=database_now(connection))
