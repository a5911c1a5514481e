"""The second journey, put together: checks, the rules over them, who is told, and what is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry

from app.alerting.actions import Retraining
from app.alerting.direct import DirectTelling
from app.alerting.guard import Guard
from app.alerting.judging import Judging
from app.alerting.message import Pages
from app.alerting.meter import Meter
from app.alerting.notify import Route
from app.alerting.outage import Outage, Tell
from app.alerting.playbook import Playbook
from app.alerting.polling import Delivery
from app.alerting.probation import BY, Trial
from app.alerting.reacting import Reaction
from app.alerting.ruleset import RuleSet
from app.alerting.setup import set_up_delivery
from app.alerting.telling import Telling
from app.alerting.watch import Watch
from app.config import Config
from app.dashboard.assets import read_playbook
from app.monitoring.exported import check_durations
from app.monitoring.monitor import AfterReport, Monitor, Watched
from app.monitoring.overdue import Overdue
from app.monitoring.scheduler import Job, Scheduler
from app.monitoring.worker import Worker
from app.serving.lifecycle import Lifecycle
from app.serving.registry import Registry
from app.store.engine import Connection
from app.store.journal import Journal
from app.store.readers import Readers
from app.store.settings import read_activation
from app.types import Json, ModelSchema, Report


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
        return (self.worker.close, self.scheduler.stop, self.watch.stop, self.delivery.stop, self.direct.stop)

    def start(self) -> None:
        """Start every task, in the event loop."""
        self.scheduler.start()
        self.watch.start()
        self.delivery.start()

    async def check_now(self, model_version: str) -> list[Report]:
        """Run every check on a version."""
        reports = await self.monitor.run(watched=_watched(self.registry, model_version))
        await self.delivery.wake()
        return reports


def set_up_watching(
    parts: Parts, routes: Sequence[Route], rules: RuleSet, retraining: Retraining, cleaning: Job, worker: Worker
) -> Watching:
    """Every part of the second journey, not yet running; ``cleaning`` runs beside the checks."""
    config, registry, journal, readers = parts.config, parts.registry, parts.journal, parts.readers
    pages = Pages(config.server.address, Playbook(read_playbook() or ""))
    react = Reaction(rules, Telling(routes, pages), retraining, config.drift.retrain_share)
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
