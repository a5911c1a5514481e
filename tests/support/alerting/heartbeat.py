"""A heartbeat over real parts: a store, its journal and readers, and counters that a test raises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from app.alerting.evaluation import evaluate
from app.alerting.rules.configured import RuleSet
from app.alerting.service.heartbeat import Heartbeat, Outage
from app.alerting.service.report import Meter, ServiceEvaluation
from app.alerting.service.rollback import AutomaticRollback, Probation
from app.alerting.service.summary import ReplicaRequests
from app.errors import Conflict
from app.metrics import JournalMetrics, ModelMetrics, ServingMetrics
from app.store.database import Connection, Database, Readers
from app.store.journal.journal import Journal
from app.store.queries import alerts
from app.store.queries.alerts import Alert, Change
from app.types import SECOND, Micros, ModelSchema, Report, ServedVersions, Task

SCHEMA = ModelSchema("m", "1", Task.BINARY, ())


@dataclass
class Heard:
    """A notifier that keeps the alerts that it was to send, and counts the ends."""

    alerts: list[Alert] = field(default_factory=list)
    ends: int = 0

    def begin(self, alert: Alert) -> None:
        """Keep it."""
        self.alerts.append(alert)

    def end(self) -> None:
        """Count it."""
        self.ends += 1


@dataclass
class Replica:
    """One replica and what it did; it is its own source of versions, rollback, listener and overdue checks."""

    schema: ModelSchema
    rules: RuleSet | None
    refused: bool
    free: asyncio.Event | None
    told: list[Change] = field(default_factory=list)
    rolled_back: list[tuple[Probation, Any]] = field(default_factory=list)
    overdue: Any = field(default_factory=dict)
    seconds: float = 0.0
    heartbeat: Heartbeat = field(init=False)
    version: ModelMetrics = field(init=False)
    journal: Journal = field(init=False)
    readers: Readers = field(init=False)

    def served(self) -> ServedVersions:
        """The one version."""
        return ServedVersions(self.schema, {self.schema.version: self.schema})

    def read(self, _connection: Connection, _schema: ModelSchema) -> Any:
        """The overdue checks that the test wants."""
        return self.overdue

    def on_report(self, connection: Connection, report: Report, served: ServedVersions) -> None:
        """Evaluate the rules and keep what must be sent."""
        task = served.active.task
        self.told.extend(evaluate(connection, report, task=task, retrain_share=0.3, rules=self.rules))

    async def roll_back(self, probation: Probation, evidence: Any) -> None:
        """Note the rollback; wait or refuse where the test wants that."""
        self.rolled_back.append((probation, evidence))
        if self.free:
            await self.free.wait()
        if self.refused:
            raise Conflict("somebody was quicker")

    async def after(self, seconds: float) -> None:
        """A tick, so many seconds after the one before."""
        self.seconds += seconds
        clock = Micros(round(self.seconds * SECOND))
        await self.heartbeat.tick(clock, now=clock)
        await asyncio.sleep(0)

    async def alerts(self, version: str = "1") -> list[tuple[str, str]]:
        """Rule and state of each alert."""
        found: list[Alert] = list(await self.readers.run(alerts.shown, "m", version))
        return [(alert.rule, alert.state) for alert in found]


@asynccontextmanager
async def beating(
    database: Database,
    *,
    schema: ModelSchema = SCHEMA,
    outage: Outage | None = None,
    refused: bool = False,
    free: asyncio.Event | None = None,
    rules: RuleSet | None = None,
) -> AsyncIterator[Replica]:
    """A replica whose heartbeat ticks when the test says so.

    Args:
        schema: the active version.
        outage: by default one that nobody is notified of.
        refused: whether a rollback is refused.
        free: what a rollback waits for.
        rules: by default the default rules.
    """
    serving, ledger = ServingMetrics(CollectorRegistry()), JournalMetrics(CollectorRegistry())
    journal, readers = Journal(database, ledger, max_rows=100), Readers(database.readers)
    replica = Replica(schema, rules, refused, free)
    replica.journal, replica.readers, replica.version = journal, readers, serving.for_model(schema)
    evaluation = ServiceEvaluation(
        journal=journal, readers=readers, versions=replica, overdue=replica, listener=replica, rules=rules
    )
    rollback = AutomaticRollback(readers, replica, replica, evaluation, probation_s=600)
    replica.heartbeat = Heartbeat(
        meter=Meter(serving, ledger, journal, readers),
        counts=ReplicaRequests(serving),
        outage=outage or Outage(Heard()),
        evaluation=evaluation,
        rollback=rollback,
        versions=replica,
        journal=journal,
        readers=readers,
        listener=replica,
    )
    journal.start()
    try:
        yield replica
    finally:
        await replica.heartbeat.stop()
        await journal.close()
        readers.close()
