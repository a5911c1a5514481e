"""Build the application: parts bottom-up from a configuration, started in that order and stopped in reverse."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import structlog
from fastapi import FastAPI

from app.alerting.actions import Retraining
from app.alerting.exported import FiringAlerts
from app.alerting.meter import Meter
from app.alerting.notify import open_channels
from app.alerting.ruleset_check import rule_set
from app.api.application import Application, build_api
from app.api.outcome import recorder
from app.api.refreshing import Refresh
from app.api.security import Keyring
from app.api.services import Services
from app.config import Config
from app.errors import ConfigError
from app.metrics import JournalMetrics, ServingMetrics, new_registry
from app.monitoring.exported import LatestReports
from app.monitoring.worker import Worker
from app.serving.lifecycle import Lifecycle
from app.serving.model import Model
from app.serving.predictor import Predictor
from app.serving.registry import Registry
from app.serving.shadows import Shadows
from app.store.engine import Connection, Database, check_reachable, open_database
from app.store.housekeeping import clean
from app.store.journal import Journal
from app.store.migrate import upgrade
from app.store.models import remember
from app.store.predictions import Stored, find
from app.store.readers import Readers
from app.store.spool import open_spool
from app.store.spooler import Spooler
from app.types import Micros
from app.watching import Parts, set_up_watching


def create_app(config: Config, worker: Worker | None = None) -> Application:
    """The application, its model loaded and its store open; serving starts with its lifespan.

    Args:
        worker: what runs the checks, where it has already started.

    Raises:
        BundleError, ConfigError, StoreLocked: what it needs is refused; the text says what to do.
    """
    routes = open_channels(config.alerts.notify)
    series = new_registry()
    serving = ServingMetrics(series)
    registry = Registry(config.serving, serving, series)
    active = registry.load()
    rules = rule_set(config.alerts.rules, active.schema, config.performance.segments)
    retraining = Retraining(config.alerts.retrain, config.server.address, config.drift.retrain_share)
    ledger = JournalMetrics(series)
    database, spooler = _open_store(config, active, ledger)
    journal = Journal(database, ledger, max_rows=config.serving.max_queue_rows, spooler=spooler)
    readers = Readers(database.readers)
    latest = LatestReports(active.schema, config.performance.window.hours)
    series.register(latest)
    alerts = FiringAlerts(active.schema, rules)
    series.register(alerts)

    cleaning = partial(clean, journal, retention_s=config.store.retention, hold_s=config.outcomes.hold_for, now=_now)
    lifecycle = Lifecycle(registry, journal, readers, partial(_note, spooler), serving.followed)
    parts = Parts(config, registry, lifecycle, journal, readers, Meter(serving, ledger, journal, readers), series)
    worker = worker or Worker(config.store.url.get_secret_value())
    watching = set_up_watching(parts, routes, rules, retraining, cleaning, worker)
    serving.build({"version": package_version()})
    shadows = Shadows(registry, config.serving, journal, serving)
    services = Services(
        config=config,
        registry=registry,
        lifecycle=lifecycle,
        predictor=Predictor(
            journal, partial(_find, spooler, readers), shadows.offer if config.serving.shadows else None
        ),
        journal=journal,
        spooler=spooler,
        readers=readers,
        metrics=serving,
        series=series,
        keyring=Keyring(config.auth.keys),
        rules=rules,
        check_now=watching.check_now,
        refresh=Refresh(registry, readers, latest, alerts),
        monitor_alive=lambda: lifecycle.alive and watching.alive,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:  # in reverse order, each also when the one before it failed
            if spooler:
                stack.callback(spooler.close)
            for close in (database.close, registry.close, readers.close):
                stack.callback(close)
            for stop in (journal.close, shadows.stop, *watching.stops, lifecycle.stop):
                stack.push_async_callback(stop)
            journal.start()
            await lifecycle.start()
            shadows.start()
            watching.start()
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


async def _find(spooler: Spooler | None, readers: Readers, ids: Sequence[str]) -> dict[str, Stored]:
    """Predictions by their ids, wherever they are."""
    return await (spooler.find(readers, ids) if spooler else readers.run(find, ids))


def _note(spooler: Spooler | None, connection: Connection, model: Model) -> None:
    """Note a version in the store, and where one stands in for it also in the spool, before either gets a row of it."""
    remember(connection, model.schema, model.bundle.sha256, now=_now())
    if spooler:
        spooler.remember(model.schema, model.bundle.sha256, now=_now())


def _now() -> Micros:
    return Micros(time.time_ns() // 1000)


def package_version() -> str:
    """The installed version, or that of a checkout that is not installed."""
    try:
        return version("plumbline")
    except PackageNotFoundError:
        return "checkout"
