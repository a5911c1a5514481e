"""Build the application: parts bottom-up from a configuration, started in that order and stopped in reverse."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import structlog
from fastapi import FastAPI

from app.alerting.evaluation import evaluate
from app.alerting.exported import FiringAlerts
from app.api.application import Application, build_api
from app.api.outcome import recorder
from app.api.security import Keyring
from app.api.services import Services
from app.config import Config
from app.errors import ConfigError, Unavailable
from app.metrics import JournalMetrics, ServingMetrics, new_registry
from app.monitoring.exported import LatestReports, check_durations
from app.monitoring.monitor import Monitor, Watched
from app.monitoring.scheduler import Scheduler
from app.monitoring.worker import Worker
from app.serving.lifecycle import Lifecycle
from app.serving.model import Model
from app.serving.predictor import Predictor
from app.serving.registry import Registry
from app.store import alerts as stored_alerts
from app.store import reports as stored_reports
from app.store.engine import Connection, Database, check_reachable, open_database
from app.store.housekeeping import clean
from app.store.journal import Journal
from app.store.migrate import upgrade
from app.store.models import remember
from app.store.predictions import Stored, find
from app.store.readers import Readers
from app.store.spool import open_spool
from app.store.spooler import Spooler
from app.types import Micros, Report

REFRESH_S = 1.0
"""How old the reports behind a scrape may be."""


def create_app(config: Config) -> Application:
    """The application, its model loaded and its store open; serving starts with its lifespan.

    Raises:
        BundleError, ConfigError, StoreLocked: what it needs is refused; the text says what to do.
    """
    series = new_registry()
    serving = ServingMetrics(series)
    registry = Registry(config.serving, serving, series)
    active = registry.load()
    ledger = JournalMetrics(series)
    database, spooler = _open_store(config, active, ledger)
    journal = Journal(database.writer, ledger, max_rows=config.serving.max_queue_rows, spooler=spooler)
    readers = Readers(database.readers)
    worker = Worker(config.store.url.get_secret_value())
    latest = LatestReports(active.schema, config.performance.window.hours)
    series.register(latest)
    alerts = FiringAlerts(active.schema)
    series.register(alerts)

    def watched(model_version: str | None = None) -> Watched:
        model = registry.get(model_version)
        return Watched(model.schema, model.bundle.folder)

    def after_report(connection: Connection, report: Report) -> None:
        task = registry.get(report.model_version).schema.task
        evaluate(connection, report, task=task, retrain_share=config.drift.retrain_share)

    monitor = Monitor(config, watched, readers, journal, worker, after_report, check_durations(series))
    cleaning = partial(clean, journal, retention_s=config.store.retention, hold_s=config.outcomes.hold_for, now=_now)
    tick_s = min(max(min(config.drift.every, config.performance.every) / 6, 0.5), 10.0)
    scheduler = Scheduler(journal, (monitor.run_due, cleaning), tick_s=tick_s)
    serving.build({"version": package_version()})

    async def check_now(model_version: str) -> list[Report]:
        return await monitor.run(watched=watched(model_version))

    async def find_stored(ids: Sequence[str]) -> dict[str, Stored]:
        return await (spooler.find(readers, ids) if spooler else readers.run(find, ids))

    lifecycle = Lifecycle(registry, journal, readers, partial(_note, spooler))

    services = Services(
        config=config,
        registry=registry,
        lifecycle=lifecycle,
        predictor=Predictor(journal, find_stored),
        journal=journal,
        spooler=spooler,
        readers=readers,
        metrics=serving,
        series=series,
        keyring=Keyring(config.auth.keys),
        check_now=check_now,
        refresh=_Refresh(registry, readers, latest, alerts),
        monitor_alive=lambda: scheduler.alive and lifecycle.alive,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:  # in reverse order, each also when the one before it failed
            if spooler:
                stack.callback(spooler.close)
            for close in (database.close, registry.close, readers.close):
                stack.callback(close)
            for stop in (journal.close, worker.close, scheduler.stop, lifecycle.stop):
                stack.push_async_callback(stop)
            journal.start()
            await lifecycle.start()
            scheduler.start()
            yield

    return build_api(services, lifespan)


def _open_store(config: Config, active: Model, ledger: JournalMetrics) -> tuple[Database, Spooler | None]:
    """The store, migrated and knowing the active model, and what spools where that is chosen.

    A store that is away then is no error: it is migrated when it comes.
    """
    database = open_database(config.store.url.get_secret_value())
    spooler = None
    if config.store.on_outage == "spool":
        spool = open_spool(config.store.spool_path, max_bytes=config.store.spool_max_bytes)
        spool.remember(active.schema, active.bundle.sha256, now=_now())
        spooler = Spooler(spool, database.writer, recorder(config), ledger)
    try:
        check_reachable(database)
    except ConfigError as error:
        if spooler is None:
            raise
        spooler.begin(str(error))
        return database, spooler
    upgrade(database.writer)
    with database.writer.begin() as connection:
        remember(connection, active.schema, active.bundle.sha256, now=_now())
    if database.corruptible:
        structlog.get_logger("store").warning(
            "old_sqlite",
            version=".".join(map(str, database.sqlite_version or ())),
            advice="install the pysqlite3 wheel: SQLite 3.51.3 mends a bug",
        )
    return database, spooler


def _note(spooler: Spooler | None, connection: Connection, model: Model) -> None:
    """Note a version in the store, and where one stands in for it also in the spool, before either gets a row of it."""
    remember(connection, model.schema, model.bundle.sha256, now=_now())
    if spooler:
        spooler.remember(model.schema, model.bundle.sha256, now=_now())


class _Refresh:
    """Brings the exported reports and alerts to the active version; while the store is away, the last known stay."""

    def __init__(self, registry: Registry, readers: Readers, latest: LatestReports, alerts: FiringAlerts) -> None:
        self._registry = registry
        self._readers = readers
        self._latest = latest
        self._alerts = alerts
        self._read_at = float("-inf")

    async def __call__(self) -> None:
        """Read the latest reports and alerts, unless they were read a moment ago."""
        if time.monotonic() - self._read_at < REFRESH_S:
            return
        self._read_at = time.monotonic()
        with suppress(Unavailable):
            schema = self._registry.active.schema
            version = (schema.name, schema.version)
            reports = await self._readers.run(stored_reports.latest_of_each, *version)
            firing = await self._readers.run(stored_alerts.firing, *version)
            self._latest.schema, self._latest.reports = schema, reports
            self._alerts.schema, self._alerts.firing = schema, firing


def _now() -> Micros:
    return Micros(time.time_ns() // 1000)


def package_version() -> str:
    """The installed version, or that of a checkout that is not installed."""
    try:
        return version("plumbline")
    except PackageNotFoundError:
        return "checkout"
