"""Build the application from a configuration; its parts start in order and stop in reverse."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from app.alerting.channels.routes import Route, open_channels
from app.alerting.delivery import Delivery, DirectNotifier, FiringAlerts, set_up_delivery
from app.alerting.evaluation import AlertUpdater, Notifier
from app.alerting.messages import Pages, Playbook
from app.alerting.retraining import Retraining
from app.alerting.rules.configured import RuleSet, rule_set
from app.alerting.service.heartbeat import Heartbeat, Outage
from app.alerting.service.report import Meter, ServiceEvaluation
from app.alerting.service.rollback import BY, AutomaticRollback, Probation
from app.alerting.service.summary import Digest, ReplicaRequests
from app.api.app import Application, build_api
from app.api.dependencies import Services
from app.api.endpoints.admin import REFRESH_S, KeyRefresh, open_keyring
from app.api.endpoints.dashboard import read_playbook
from app.api.endpoints.outcome import recorder
from app.api.endpoints.probes import StoredMetrics
from app.background import PeriodicTask
from app.config.fields import Logging
from app.config.settings import Config
from app.errors import ConfigError
from app.logging import PredictionLog, lost_lines
from app.metrics import JournalMetrics, KeptCounter, ServingMetrics, by_reason, new_registry, package_version
from app.monitoring.metrics import LatestReports, check_durations
from app.monitoring.monitor import Job, Monitor, Overdue, RequestedCheck, Scheduler
from app.monitoring.worker import Worker
from app.reports.service import RollbackEvidence
from app.serving.activation import Activator
from app.serving.bundle.verification import Verifier, memory_of
from app.serving.predictor import Predictor
from app.serving.registry import Model, Registry, RegistryVersions
from app.serving.shadow import Shadows
from app.store.database import Connection, Database, Readers, check_reachable, open_database
from app.store.journal.journal import Journal
from app.store.journal.spool import Spooler, open_spool
from app.store.migrate import upgrade
from app.store.privacy import Privacy, keep_salt
from app.store.queries.predictions import Stored, find
from app.store.queries.versions import remember
from app.store.retention import clean
from app.telemetry import Telemetry, open_telemetry
from app.types import Micros


class StoreAndSpool:
    """Predictions and schemas, both in the store and in the spool."""

    def __init__(self, readers: Readers, spooler: Spooler | None) -> None:
        self._readers = readers
        self._spooler = spooler

    async def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """The predictions with these ids."""
        return await (self._spooler.find(self._readers, ids) if self._spooler else self._readers.run(find, ids))

    def remember(self, connection: Connection, model: Model) -> None:
        """Store the schema of a version; this comes before any row of it."""
        remember(connection, model.schema, model.bundle.sha256, now=_now())
        if self._spooler:
            self._spooler.remember(model.schema, model.bundle.sha256, now=_now())


class ProbationRollback:
    """Rolls the version on probation back in the name of the service."""

    def __init__(self, activator: Activator) -> None:
        self._activator = activator

    async def roll_back(self, probation: Probation, evidence: RollbackEvidence) -> None:
        """Go back to the version before."""
        await self._activator.rollback(by=BY, of=probation.version, evidence=evidence)


@dataclass(frozen=True, slots=True)
class ServingParts:
    """The parts of the request path that monitoring uses."""

    config: Config
    registry: Registry
    activator: Activator
    journal: Journal
    readers: Readers
    meter: Meter
    counts: ReplicaRequests
    series: CollectorRegistry


class MonitoringService:
    """Checks, alerts and the heartbeat: their tasks, started and stopped together."""

    def __init__(
        self,
        versions: RegistryVersions,
        journal: Journal,
        worker: Worker,
        monitor: Monitor,
        updater: AlertUpdater,
        heartbeat: Heartbeat,
        delivery: Delivery,
        direct: DirectNotifier,
        *,
        tick_s: float,
        jobs: Sequence[Job],
    ) -> None:
        self._versions = versions
        self._journal = journal
        self._worker = worker
        self._monitor = monitor
        self.updater = updater
        self._heartbeat = heartbeat
        self._delivery = delivery
        self._direct = direct
        first = (Job("checks", monitor.run_due), Job("alerts", self.update_alerts), Job("delivery", delivery.wake))
        self._scheduler = Scheduler(journal, (*first, *jobs), tick_s=tick_s)

    @property
    def tasks(self) -> list[PeriodicTask]:
        """All periodic tasks."""
        return [self._scheduler.task, self._heartbeat.task, *self._delivery.tasks]

    def start(self) -> None:
        """Start all tasks, in the event loop."""
        for task in self.tasks:
            task.start()

    async def stop(self) -> None:
        """Stop all, and the process of the checks last; each also where the stop before failed."""
        async with AsyncExitStack() as stack:
            for stop in (
                self._worker.close,
                self._monitor.stop,
                self._scheduler.stop,
                self._heartbeat.stop,
                self._delivery.stop,
                self._direct.stop,
            ):
                stack.push_async_callback(stop)

    async def check_now(self, model_version: str, seconds: float) -> list[RequestedCheck]:
        """Run every check on a version; return when all have ended, or after some seconds.

        The checks that have not ended go on.

        Raises:
            Unavailable: the store cannot be reached.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        requested = await self._monitor.request(watched=self._versions.find(model_version))
        left = max(0.0, seconds - (clock() - began))
        await asyncio.wait([check.task for check in requested], timeout=left)
        await self._delivery.wake()
        return requested

    async def update_alerts(self) -> None:
        """End the alerts of versions that have none any more, and send those that a channel lacks."""
        served = self._versions.served()
        await self._journal.run(lambda connection: self.updater.on_tick(connection, served))


def build_monitoring(
    parts: ServingParts, routes: Sequence[Route], rules: RuleSet, retraining: Retraining, worker: Worker
) -> MonitoringService:
    """Build checks, alerts and the heartbeat; nothing runs before ``start``."""
    config, journal, readers = parts.config, parts.journal, parts.readers
    versions = RegistryVersions(parts.registry)
    pages = Pages(config.server.address, Playbook(read_playbook() or ""))
    updater = AlertUpdater(rules, Notifier(routes, pages), retraining, config.drift.retrain_share)
    monitor = Monitor(config, versions, readers, journal, worker, updater, check_durations(parts.series))
    direct = DirectNotifier(routes, pages)
    every = None if config.alerts.digest == "off" else config.alerts.digest
    digest = Digest(every, routes, config.server.address, versions, journal, readers)
    cleaning = partial(clean, journal, retention_s=config.store.retention, hold_s=config.outcomes.hold_for, now=_now)
    return MonitoringService(
        versions,
        journal,
        worker,
        monitor,
        updater,
        _build_heartbeat(parts, versions, monitor, updater, direct, rules),
        set_up_delivery(routes, pages, journal, readers, parts.series, more=retraining.channels),
        direct,
        tick_s=min(max(min(config.drift.every, config.performance.every) / 6, 0.5), 10.0),
        jobs=(Job("retention", cleaning), Job("digest", digest.run)),
    )


def _build_heartbeat(
    parts: ServingParts,
    versions: RegistryVersions,
    monitor: Monitor,
    updater: AlertUpdater,
    direct: DirectNotifier,
    rules: RuleSet,
) -> Heartbeat:
    """Build the heartbeat, which evaluates the service and rolls a failing version back."""
    journal, readers = parts.journal, parts.readers
    evaluation = ServiceEvaluation(
        journal=journal,
        readers=readers,
        versions=versions,
        overdue=Overdue(parts.config, monitor),
        listener=updater,
        rules=rules,
    )
    rollback = AutomaticRollback(
        readers,
        versions,
        ProbationRollback(parts.activator),
        evaluation,
        probation_s=parts.config.serving.probation,
    )
    return Heartbeat(
        meter=parts.meter,
        counts=parts.counts,
        outage=Outage(direct, rules),
        evaluation=evaluation,
        rollback=rollback,
        versions=versions,
        journal=journal,
        readers=readers,
        listener=updater,
    )


def create_app(config: Config, worker: Worker | None = None) -> Application:
    """Build the application, load its model and open its store; its lifespan starts it.

    Args:
        worker: runs the checks, where it has already started.

    Raises:
        BundleError, ConfigError, StoreLocked: a part is refused; the text says what to do.
    """
    routes, series = open_channels(config.alerts.notify), new_registry()
    serving, ledger = ServingMetrics(series, package_version()), JournalMetrics(series)
    private = {name for name, mode in config.privacy.features.items() if mode != "clear"}
    registry = Registry(config.serving, serving, series, Verifier(config.serving, memory_of(config)), private)
    active = registry.load()
    rules = rule_set(config.alerts.rules, active.schema, config.performance.segments)
    retraining = Retraining(config.alerts.retrain, config.server.address, config.drift.retrain_share)
    database, spooler = _open_store(config, active, ledger)  # last: what is refused before it has opened nothing
    journal = Journal(database, ledger, max_rows=config.serving.max_queue_rows, spooler=spooler)
    readers, checks = Readers(database.readers), worker or Worker(config.store.url.get_secret_value())
    latest, alerts = _register_collectors(config, active, rules, series)
    privacy = _open_privacy(config, database, spooler)
    stored = StoreAndSpool(readers, spooler)
    keys = KeyRefresh(open_keyring(config, active.schema.name, database, spooler), readers, journal, spooler)
    activator = Activator(registry, journal, readers, stored, serving.followed)
    meter, counts = Meter(serving, ledger, journal, readers), ReplicaRequests(serving)
    parts = ServingParts(config, registry, activator, journal, readers, meter, counts, series)
    monitoring = build_monitoring(parts, routes, rules, retraining, checks)
    shadows = Shadows(registry, config.serving, journal, serving)
    rows, telemetry = open_prediction_log(config.logging, series), open_telemetry(os.environ, series, package_version())
    services = Services(
        config=config,
        registry=registry,
        activator=activator,
        predictor=Predictor(journal, stored, shadows if config.serving.shadows else None, privacy, rows),
        privacy=privacy,
        journal=journal,
        spooler=spooler,
        readers=readers,
        metrics=serving,
        series=series,
        keyring=keys.keyring,
        keys=keys,
        spans=telemetry.spans if telemetry else None,
        rules=rules,
        monitoring=monitoring,
        counts=counts,
        stored_metrics=StoredMetrics(registry, readers, latest, alerts, serving.last_predictions),
        background=[activator.task, keys.task, *shadows.tasks, *monitoring.tasks, *([spooler] if spooler else [])],
    )
    return build_api(services, partial(_lifespan, services, database, shadows, monitoring, rows, telemetry))


@asynccontextmanager
async def _lifespan(
    services: Services,
    database: Database,
    shadows: Shadows,
    monitoring: MonitoringService,
    rows: PredictionLog | None,
    telemetry: Telemetry | None,
    _app: FastAPI,
) -> AsyncIterator[None]:
    journal, activator = services.journal, services.activator
    async with AsyncExitStack() as stack:  # in reverse order, each also when the one before it failed
        if services.spooler:
            stack.callback(services.spooler.close)
        for close in (database.close, services.registry.close, services.readers.close, services.large_bodies.shutdown):
            stack.callback(close)
        if telemetry:
            telemetry.start(services.stored_metrics.refresh)
            stack.push_async_callback(telemetry.stop)
        if rows:
            rows.start()
            stack.push_async_callback(asyncio.to_thread, rows.stop)
        for stop in (journal.close, shadows.stop, monitoring.stop, services.keys.task.stop, activator.stop):
            stack.push_async_callback(stop)
        journal.start()
        await activator.start()
        services.keys.task.start(after_s=REFRESH_S)
        shadows.start()
        monitoring.start()
        yield


def open_prediction_log(settings: Logging, series: CollectorRegistry) -> PredictionLog | None:
    """The log of predictions that the settings ask for, and the metric of lost lines."""
    is_off = settings.predictions == "off" or settings.level in ("warning", "error")
    log = None if is_off else PredictionLog(has_values=settings.predictions == "all")
    name, about = "ml_log_lines_lost", "Lines of the log that were not written"
    KeptCounter(series, name, about, ["reason"], lambda: by_reason(lost_lines() + (log.lost if log else Counter())))
    return log


def _open_store(config: Config, active: Model, ledger: JournalMetrics) -> tuple[Database, Spooler | None]:
    """Open and migrate the store, and store the schema of the active model.

    The spool is opened where it is configured. With a spool, a store that is away is no error: it is migrated later.
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


def _register_collectors(
    config: Config, active: Model, rules: RuleSet, series: CollectorRegistry
) -> tuple[LatestReports, FiringAlerts]:
    """The metrics of stored reports and alerts."""
    latest, alerts = LatestReports(active.schema, config.performance.window.hours), FiringAlerts(active.schema, rules)
    series.register(latest)
    series.register(alerts)
    return latest, alerts


def _open_privacy(config: Config, database: Database, spooler: Spooler | None) -> Privacy:
    """The form in which values are stored, with the salt of the store.

    The spool keeps the salt too, for a start without the store.

    Raises:
        ConfigError: the store is away, and the salt is not known.
    """
    if not config.privacy.features:
        return Privacy()
    salt = None
    if spooler is None or spooler.outage is None:
        with database.writer.begin() as connection:
            salt = keep_salt(connection)
    if spooler is not None:
        salt = spooler.spool.salt(salt)
    if salt is None:
        raise ConfigError("store.url: the store is away, and privacy.features needs the salt that is in it")
    return Privacy(config.privacy.features, salt)


def _now() -> Micros:
    return Micros(time.time_ns() // 1000)
