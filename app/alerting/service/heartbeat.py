"""The heartbeat stores a replica's usage; the replica with the lease evaluates the service."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import structlog

from app.alerting.evaluation import describe_alert
from app.alerting.rules.configured import RuleSet
from app.alerting.rules.service import OUTAGE_RULE, judge_service
from app.alerting.service.report import Meter, ServiceEvaluation
from app.alerting.service.rollback import AutomaticRollback
from app.alerting.service.summary import ReplicaRequests
from app.background import PeriodicTask
from app.errors import Unavailable
from app.reports.service import ServiceFigures, ServiceReport
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries import reports
from app.store.queries.alerts import Alert, Silence, keep, planned_silences
from app.store.queries.replicas import acquire, beat, database_now, release
from app.store.queries.reports import ReportListener
from app.types import SECOND, Micros, ModelSchema, Report, ServedVersions, VersionSource, new_id

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
        counts: ReplicaRequests,
        outage: Outage,
        evaluation: ServiceEvaluation,
        rollback: AutomaticRollback,
        versions: VersionSource,
        journal: Journal,
        readers: Readers,
        listener: ReportListener,
    ) -> None:
        self._meter = meter
        self._counts = counts
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
            await self._counts.save(self._journal)
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
            await self._counts.save(self._journal)
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


LIMIT_S = 10.0
"""A shorter outage raises no alert: a restart of the database takes some seconds."""


class OutageNotifier(Protocol):
    """Sends an alert that is in no table to every channel."""

    def begin(self, alert: Alert) -> None:
        """Begin to send, and return at once."""

    def end(self) -> None:
        """Stop sending: later messages would arrive after that of the end."""


@dataclass(frozen=True, slots=True)
class EndedOutage:
    """An outage that has ended.

    Attributes:
        alert: the alert that was sent.
        ended_at: by the clock that was passed to :meth:`Outage.observe`.
    """

    alert: Alert
    ended_at: Micros
    seconds: float
    reason: str


class Outage:
    """Observes whether the store can be reached; its state is in memory alone.

    Attributes:
        ended: outages that have ended and are not recorded yet, the oldest first.
        silences: the silences read last. They cannot be read while the store is away.
    """

    def __init__(self, notifier: OutageNotifier, rules: RuleSet | None = None) -> None:
        self._notifier = notifier
        self._rules = rules or RuleSet()
        self._began: Micros | None = None
        self._last_reason = ""
        self._alert: Alert | None = None
        self.ended: deque[EndedOutage] = deque()
        self.silences: Sequence[Silence] = ()

    @property
    def ongoing(self) -> bool:
        """Whether the store was away when it was observed last."""
        return self._began is not None

    def observe(self, reason: str | None, active: ModelSchema, clock: Micros, *, now: Micros) -> None:
        """Note whether the store is away; an outage beyond the limit is sent to the channels, once.

        Args:
            reason: why the store cannot be reached; None while it can.
            active: the version whose alert it is.
            clock: a clock that never jumps, for durations.
            now: the wall clock, for messages.
        """
        if reason is None:
            if self._began is not None and self._alert:
                self._notifier.end()
                seconds = (clock - self._began) / SECOND
                self.ended.append(EndedOutage(self._alert, clock, seconds, self._last_reason))
            self._began = self._alert = None
            return
        self._last_reason = reason
        if self._began is None:
            self._began = clock
        seconds = (clock - self._began) / SECOND
        if self._alert is None and seconds >= LIMIT_S:
            self._alert = self._new_alert(_body(seconds, reason), active, Micros(now - (clock - self._began)), now)
            if self._alert:
                structlog.get_logger("alerts").warning("alert_firing", **describe_alert(self._alert))
            if self._alert and self._alert.told_at is not None:
                self._notifier.begin(self._alert)

    def record(
        self,
        connection: Connection,
        outage: EndedOutage,
        listener: ReportListener,
        served: ServedVersions,
        *,
        clock: Micros,
    ) -> None:
        """Save the alert of an ended outage as it fired, and a report that resolves it.

        An outage that is recorded already stays as it is: the answer of an earlier commit may have been lost.
        """
        alert = outage.alert
        if reports.get(connection, alert.report_id):
            return
        ended = Micros(database_now(connection) - (clock - outage.ended_at))
        began = Micros(ended - round(outage.seconds * SECOND))
        body = _body(outage.seconds, outage.reason)
        reports.save(connection, _report(alert, alert.report_id, began, {**body, "status": "warning"}))
        finding = self._rules.change(judge_service(body))[OUTAGE_RULE] or alert.finding
        keep(connection, replace(alert, finding=finding, since=began, changed_at=began))
        resolved: ServiceReport = {"status": "ok", "outage": None, "errors": []}
        report = _report(alert, new_id(ended * 1000), ended, resolved)
        reports.save(connection, report)
        listener.on_report(connection, report, served)

    def _new_alert(self, body: ServiceFigures, active: ModelSchema, since: Micros, now: Micros) -> Alert | None:
        """The alert, not to be sent where a silence covers it; None where the rule is off."""
        finding = self._rules.change(judge_service(body))[OUTAGE_RULE]
        if finding is None:
            return None
        at = since * 1000
        alert = Alert(
            new_id(at), OUTAGE_RULE, active.name, active.version, "firing", finding, since, since, 1, new_id(at), since
        )
        silenced = any(
            silence.starts_at <= now < silence.ends_at and silence.covers(alert) for silence in self.silences
        )
        return replace(alert, told_at=None) if silenced else alert


def _body(seconds: float, reason: str) -> ServiceFigures:
    return {"outage": {"seconds": seconds, "limit_s": LIMIT_S, "reason": reason.splitlines()[0]}, "errors": []}


def _report(alert: Alert, report_id: str, at: Micros, body: ServiceReport) -> Report:
    return Report(report_id, "service", alert.model_name, alert.model_version, at, body["status"], body)
