"""Build the application: its parts from a configuration, started in order and stopped in reverse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from app.alerting.channels.routes import Route, open_channels
from app.alerting.delivery import DirectTelling, FiringAlerts, set_up_delivery
from app.alerting.evaluation import Notifier, Reaction
from app.alerting.messages import Pages, Playbook
from app.alerting.retraining import Retraining
from app.alerting.rules.configured import RuleSet, rule_set
from app.alerting.service.heartbeat import Watch
from app.alerting.service.outage import Outage, Tell
from app.alerting.service.report import Judging
from app.alerting.service.rollback import BY, Guard, Trial
from app.alerting.service.usage import Meter
from app.api.app import Application, build_api
from app.api.dependencies import Keyring, Services
from app.api.endpoints.metrics import Refresh
from app.api.endpoints.outcome import recorder
from app.background import Delivery
from app.config.settings import Config
from app.dashboard.assets import read_playbook
from app.errors import ConfigError
from app.metrics import JournalMetrics, ServingMetrics, new_registry
from app.monitoring.metrics import LatestReports, check_durations
from app.monitoring.monitor import AfterReport, Monitor, Overdue, RequestedCheck, Watched
from app.monitoring.scheduler import Scheduler
from app.monitoring.worker import Worker
from app.serving.activation import Lifecycle
from app.serving.model import Model
from app.serving.predictor import Predictor
from app.serving.registry import Registry
from app.serving.shadow import Shadows
from app.store.database import Connection, Database, Readers, check_reachable, open_database
from app.store.journal.journal import Journal
from app.store.journal.spool import Spooler, open_spool
from app.store.migrate import upgrade
from app.store.queries.predictions import Stored, find
from app.store.queries.versions import read_activation, remember
from app.store.retention import clean
from app.types import Json, Micros, ModelSchema, Report


@dataclass(frozen=True, slots=True)
class Parts:
    """What the second journey stands on."""

    config: Config
    registry: Registry
    lifecycle: Lifecycle
    journal: Journal
    readers: Readers
    meter: Meter
    series: CollectorRegistry


@dataclass(frozen=True, slots=True)
class Watching:
    """The running parts."""

    registry: Registry
    worker: Worker
    monitor: Monitor
    scheduler: Scheduler
    watch: Watch
    delivery: Delivery
    direct: DirectTelling

    @property
    def alive(self) -> bool:
        """False once a task has ended."""
        return self.scheduler.alive and self.watch.alive and self.delivery.alive

    @property
    def stops(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What ends each part; the last one first."""
        last = (self.worker.close, self.monitor.stop)
        return (*last, self.scheduler.stop, self.watch.stop, self.delivery.stop, self.direct.stop)

    def start(self) -> None:
        """Start every task, in the event loop."""
        self.scheduler.start()
        self.watch.start()
        self.delivery.start()

    async def check_now(self, model_version: str, seconds: float) -> list[RequestedCheck]:
        """Run every check on a version; return when all have ended, or after some seconds, and let the rest go on.

        Raises:
            Unavailable: the store cannot be reached.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        requested = await self.monitor.request(watched=_watched(self.registry, model_version))
        left = max(0.0, seconds - (clock() - began))
        await asyncio.wait([check.task for check in requested], timeout=left)
        await self.delivery.wake()
        return requested


def set_up_watching(parts: Parts, routes: Sequence[Route], rules: RuleSet, worker: Worker) -> Watching:
    """Every part of the second journey, not yet running."""
    config, registry, journal, readers = parts.config, parts.registry, parts.journal, parts.readers
    retraining = Retraining(config.alerts.retrain, config.server.address, config.drift.retrain_share)
    cleaning = partial(clean, journal, retention_s=config.store.retention, hold_s=config.outcomes.hold_for, now=_now)
    pages = Pages(config.server.address, Playbook(read_playbook() or ""))
    react = Reaction(rules, Notifier(routes, pages), retraining, config.drift.retrain_share)
    delivery = set_up_delivery(routes, pages, journal, readers, parts.series, more=retraining.channels)

    def after_report(connection: Connection, report: Report) -> None:
        if report.model_version in _answering(registry, connection):
            is_active = report.model_version == registry.active.schema.version
            react.on_report(connection, report, registry.schema(report.model_version).task, is_active=is_active)

    async def keep_up() -> None:
        def end(connection: Connection) -> None:
            react.on_turn(connection, registry.active.schema.name, _answering(registry, connection))

        await journal.run(end)

    monitor = Monitor(
        config,
        partial(_watched, registry),
        readers,
        journal,
        worker,
        after_report,
        check_durations(parts.series),
        partial(_shadows, registry),
    )
    direct = DirectTelling(routes, pages)
    tick_s = min(max(min(config.drift.every, config.performance.every) / 6, 0.5), 10.0)
    scheduler = Scheduler(journal, (monitor.run_due, keep_up, delivery.wake, cleaning), tick_s=tick_s)
    return Watching(
        registry, worker, monitor, scheduler, _watch(parts, monitor, after_report, direct, rules), delivery, direct
    )


def _watch(parts: Parts, monitor: Monitor, after: AfterReport, tell: Tell, rules: RuleSet) -> Watch:
    """What watches the service itself, and rolls back a version on probation."""
    journal, readers = parts.journal, parts.readers

    def schema() -> ModelSchema:
        return parts.registry.active.schema

    async def roll_back(trial: Trial, evidence: Json) -> None:
        await parts.lifecycle.rollback(by=BY, of=trial.version, evidence=evidence)

    overdue = Overdue(parts.config, monitor.is_due, schema)
    judging = Judging(journal=journal, readers=readers, schema=schema, overdue=overdue, after=after, rules=rules)
    return Watch(
        meter=parts.meter,
        outage=Outage(lambda: journal.outage, schema, tell, rules),
        judging=judging,
        guard=Guard(readers, schema, roll_back, judging.judge, probation_s=parts.config.serving.probation),
        journal=journal,
        readers=readers,
        after=after,
    )


def _watched(registry: Registry, version: str | None = None) -> Watched:
    """What checks look at for a version; None asks for the active one."""
    if shadow := registry.shadow(version):
        return Watched(shadow.schema, shadow.folder, "shadow")
    model = registry.get(version)
    return Watched(model.schema, model.bundle.folder)


def _answering(registry: Registry, connection: Connection) -> set[str]:
    """The versions whose alerts concern somebody: the active one, and one that is about to be; no shadow."""
    chosen = read_activation(connection, registry.active.schema.name)
    return {registry.active.schema.version} | ({chosen.version} if chosen else set())


def _shadows(registry: Registry) -> list[Watched]:
    return [Watched(shadow.schema, shadow.folder, "shadow") for shadow in registry.shadows]


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
    ledger = JournalMetrics(series)
    database, spooler = _open_store(config, active, ledger)
    journal = Journal(database, ledger, max_rows=config.serving.max_queue_rows, spooler=spooler)
    readers = Readers(database.readers)
    latest = LatestReports(active.schema, config.performance.window.hours)
    series.register(latest)
    alerts = FiringAlerts(active.schema, rules)
    series.register(alerts)

    lifecycle = Lifecycle(registry, journal, readers, partial(_note, spooler), serving.followed)
    parts = Parts(config, registry, lifecycle, journal, readers, Meter(serving, ledger, journal, readers), series)
    worker = worker or Worker(config.store.url.get_secret_value())
    watching = set_up_watching(parts, routes, rules, worker)
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

    return build_api(services, partial(_lifespan, services, database, shadows, watching))


@asynccontextmanager
async def _lifespan(
    services: Services, database: Database, shadows: Shadows, watching: Watching, _app: FastAPI
) -> AsyncIterator[None]:
    journal, lifecycle = services.journal, services.lifecycle
    async with AsyncExitStack() as stack:  # in reverse order, each also when the one before it failed
        if services.spooler:
            stack.callback(services.spooler.close)
        for close in (database.close, services.registry.close, services.readers.close):
            stack.callback(close)
        for stop in (journal.close, shadows.stop, *watching.stops, lifecycle.stop):
            stack.push_async_callback(stop)
        journal.start()
        await lifecycle.start()
        shadows.start()
        watching.start()
        yield


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
