"""Rows and outcomes through the monitor: the real store, checks and rules, and a database with a simulated clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.alerting.evaluation import evaluate
from app.config.settings import Config
from app.metrics import JournalMetrics
from app.monitoring.check_request import Check
from app.monitoring.checks import run_check
from app.monitoring.metrics import check_durations
from app.monitoring.monitor import Monitor
from app.monitoring.reference.reference import Reference, load_reference
from app.monitoring.worker import Worker
from app.serving.bundle.reader import Bundle, read_bundle
from app.store.database import Connection, Readers, open_database, open_readers
from app.store.journal.journal import Journal
from app.store.migrate import upgrade
from app.store.queries.alerts import Change
from app.store.queries.outcomes import Revision, append
from app.store.queries.predictions import insert
from app.store.queries.versions import remember
from app.types import Micros, ModelSchema, Prediction, Report, ServedVersions, Watched
from benchmarks.months.stream import DAY

_JULIAN_1970 = 2_440_587.5


@dataclass
class Clock:
    """The simulated time, also of the database: SQLite's own function is replaced in its connections."""

    now: Micros

    def set_in(self, engine: Engine) -> None:
        """Let connections that are opened from now on see this time."""

        @event.listens_for(engine, "connect")
        def _replace(connection: Any, _record: object) -> None:
            connection.create_function("julianday", 1, lambda _: self.now / DAY + _JULIAN_1970)


class _InProcess(Worker):
    """Runs the checks in this process, which has nobody to answer meanwhile."""

    def __init__(self, url: str, reference: Reference) -> None:
        super().__init__(url)
        self._engine = open_readers(url, snapshots=False)
        self._reference = reference

    async def run(self, check: Check) -> Any:
        """The body of the report."""
        with self._engine.connect() as connection:
            return run_check(check, connection, self._reference)


@dataclass(frozen=True, slots=True)
class OneVersion:
    """A source of versions that has one, without shadows; it keeps no alerts."""

    schema: ModelSchema
    folder: Path

    def served(self) -> ServedVersions:
        """The one version."""
        return ServedVersions(self.schema, {self.schema.version: self.schema})

    def active(self) -> Watched:
        """The one version."""
        return Watched(self.schema, self.folder)

    def shadows(self) -> Sequence[Watched]:
        """None."""
        return ()


@dataclass(frozen=True, slots=True)
class AlertLog:
    """Evaluates the default rules on each report, and keeps the changes that would be sent."""

    told: list[Change]
    retrain_share: float

    def on_report(self, connection: Connection, report: Report, served: ServedVersions) -> None:
        """Keep the changes."""
        task = served.active.task
        self.told.extend(evaluate(connection, report, task=task, retrain_share=self.retrain_share))


@dataclass(frozen=True, slots=True)
class Replay:
    """A running monitor, and what it has told and looked at so far."""

    bundle: Bundle
    journal: Journal
    monitor: Monitor
    clock: Clock
    told: list[Change]
    reports: list[Report]

    async def run_until(self, end: int, rows: Sequence[Prediction], labels: Sequence[Revision]) -> None:
        """Store what came since the last time, move the clock, and run the checks that are due."""
        await self._store(insert, rows)
        await self._store(append, labels)
        self.clock.now = Micros(end)
        self.reports.extend(await self.monitor.run_due())

    async def _store(self, write: Callable[[Connection, Sequence[Any]], object], items: Sequence[Any]) -> None:
        if items:
            await self.journal.run(lambda connection: write(connection, items))


@asynccontextmanager
async def watching(config: Config, bundle_folder: Path, *, now: int) -> AsyncIterator[Replay]:
    """Watch a bundle and the store of a configuration from a moment on."""
    url, series, clock = config.store.url.get_secret_value(), CollectorRegistry(), Clock(Micros(now))
    bundle = read_bundle(bundle_folder)
    database = open_database(url)
    clock.set_in(database.writer)
    clock.set_in(database.readers)
    upgrade(database.writer)
    with database.writer.begin() as connection:
        remember(connection, bundle.schema, bundle.sha256, now=clock.now)
    journal = Journal(database, JournalMetrics(series), max_rows=100_000)
    readers = Readers(database.readers)
    worker = _InProcess(url, load_reference(bundle.folder, bundle.schema))
    told: list[Change] = []
    versions, listener = OneVersion(bundle.schema, bundle.folder), AlertLog(told, config.drift.retrain_share)
    monitor = Monitor(config, versions, readers, journal, worker, listener, check_durations(series))
    journal.start()
    try:
        yield Replay(bundle, journal, monitor, clock, told, [])
    finally:
        await worker.close()
        await journal.close()
        readers.close()
        database.close()
