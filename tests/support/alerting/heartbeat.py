"""A watch over real parts: a store, its journal and readers, and counters that a test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import CollectorRegistry

from app.alerting.evaluation import evaluate
from app.alerting.rules.configured import RuleSet
from app.alerting.service.heartbeat import Watch
from app.alerting.service.outage import Outage
from app.alerting.service.report import Judging
from app.alerting.service.rollback import Guard, Trial
from app.alerting.service.usage import Meter
from app.errors import Conflict
from app.metrics import JournalMetrics, ModelMetrics, ServingMetrics
from app.store.database import Connection, Database, Readers
from app.store.journal.journal import Journal
from app.store.queries import alerts
from app.store.queries.alerts import Alert, Change
from app.types import SECOND, Json, Micros, ModelSchema, Report, Task

SCHEMA = ModelSchema("m", "1", Task.BINARY, ())


@dataclass
class Heard:
    """Who is told of an outage: keeps what was begun, and counts the ends."""

    alerts: list[Alert] = field(default_factory=list)
    ends: int = 0

    def begin(self, alert: Alert) -> None:
        """Keep it."""
        self.alerts.append(alert)

    def end(self) -> None:
        """Count it."""
        self.ends += 1


@dataclass
class Watched:
    """One replica, and what it did."""

    watch: Watch
    version: ModelMetrics
    journal: Journal
    readers: Readers
    told: list[Change]
    rolled_back: list[tuple[Trial, Json]]
    overdue: Json = field(default_factory=dict)
    seconds: float = 0.0

    async def after(self, seconds: float) -> None:
        """A turn of the watch, so many seconds after the one before."""
        self.seconds += seconds
        clock = Micros(round(self.seconds * SECOND))
        await self.watch.tick(clock, now=clock)
        await asyncio.sleep(0)

    async def alerts(self, version: str = "1") -> list[tuple[str, str]]:
        """Rule and state of each alert."""
        found: list[Alert] = list(await self.readers.run(alerts.shown, "m", version))
        return [(alert.rule, alert.state) for alert in found]


@asynccontextmanager
async def watching(
    database: Database,
    *,
    schema: Callable[[], ModelSchema] = lambda: SCHEMA,
    outage: Outage | None = None,
    refused: bool = False,
    free: asyncio.Event | None = None,
    rules: RuleSet | None = None,
) -> AsyncIterator[Watched]:
    """A watch that does nothing by itself.

    Args:
        schema: the active version.
        outage: by default that of the journal.
        refused: whether a rollback is refused.
        free: what a rollback waits for.
        rules: by default those of the house.
    """
    serving, ledger = ServingMetrics(CollectorRegistry()), JournalMetrics(CollectorRegistry())
    journal, readers = Journal(database, ledger, max_rows=100), Readers(database.readers)
    told: list[Change] = []
    rolled_back: list[tuple[Trial, Json]] = []
    judge = partial(evaluate, task=Task.BINARY, retrain_share=0.3, rules=rules)

    def after(connection: Connection, report: Report) -> None:
        told.extend(judge(connection, report))

    async def roll_back(trial: Trial, evidence: Json) -> None:
        rolled_back.append((trial, evidence))
        if free:
            await free.wait()
        if refused:
            raise Conflict("somebody was quicker")

    def overdue(_connection: Connection) -> Json:
        return replica.overdue

    judging = Judging(journal=journal, readers=readers, schema=schema, overdue=overdue, after=after, rules=rules)
    watch = Watch(
        meter=Meter(serving, ledger, journal, readers),
        outage=outage or Outage(lambda: journal.outage, schema, Heard()),
        judging=judging,
        guard=Guard(readers, schema, roll_back, judging.judge, probation_s=600),
        journal=journal,
        readers=readers,
        after=after,
    )
    replica = Watched(watch, serving.for_model(schema()), journal, readers, told, rolled_back)
    journal.start()
    try:
        yield replica
    finally:
        await watch.stop()
        await journal.close()
        readers.close()
