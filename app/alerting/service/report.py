"""The service report: the usage of all replicas in steps, evaluated by the service rules."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Protocol, TypeAlias

import structlog

from app.alerting.evaluation import evaluate_service
from app.alerting.rules.configured import RuleSet
from app.alerting.rules.drift import Verdicts
from app.alerting.rules.service import describe, judge_service
from app.alerting.service.rollback import began_at, last_rollback
from app.metrics import JournalMetrics, ServingMetrics
from app.reports.service import OverdueCheck, ServiceFigures, ServiceReport
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries import alerts, reports
from app.store.queries.replicas import Pulse, Step, database_now, read_pulses
from app.store.queries.reports import ReportListener
from app.store.queries.versions import read_activation
from app.types import SECOND, Micros, ModelSchema, Report, ServedVersions, VersionSource, new_id, to_rfc3339

KEPT_S = 300
"""How far back steps are kept, and how far back the service is evaluated."""
Version: TypeAlias = tuple[str, str]
"""Name and version of a model."""
Counts: TypeAlias = tuple[int, ...]


class Meter:
    """Keeps the steps of every version in this replica; it costs a request nothing."""

    def __init__(self, serving: ServingMetrics, ledger: JournalMetrics, journal: Journal, readers: Readers) -> None:
        self.replica = new_id()
        self._serving = serving
        self._ledger = ledger
        self._journal = journal
        self._readers = readers
        self._read_at: Micros | None = None
        self._rows: Mapping[Version, Counts] = {}
        self._latencies: dict[Version, Counts] = {}
        self._store_failures = 0
        self._steps: defaultdict[Version, deque[Step]] = defaultdict(deque)
        self._fresh: set[Version] = set()

    def read(self, clock: Micros) -> None:
        """End a step: all that was counted since the step before belongs to it."""
        began = clock if self._read_at is None else self._read_at
        failures = self._ledger.store_failures + self._readers.failures
        away = self._journal.outage is not None or failures > self._store_failures
        rows = _rows(self._serving)
        for version, counts in rows.items():
            latencies = tuple(self._serving.latency.labels(*version).counts)
            answered, refused, failed = _less(counts, self._rows.get(version))
            if answered or refused or failed:
                slow = _less(latencies, self._latencies.get(version))
                self._steps[version].append(Step(began, answered, refused, failed, away, slow))
                self._fresh.add(version)
            self._latencies[version] = latencies
        for steps in self._steps.values():
            while steps and steps[0].began < clock - KEPT_S * SECOND:
                steps.popleft()
        self._rows, self._store_failures, self._read_at = rows, failures, clock

    def pulses(self) -> list[Pulse]:
        """The pulses of the versions that did anything since :meth:`noted`."""
        return [Pulse(self.replica, *version, tuple(self._steps[version])) for version in self._fresh]

    def noted(self) -> None:
        """Note that the pulses are stored."""
        self._fresh.clear()


def _less(now: Counts, before: Counts | None) -> Counts:
    return tuple(count - earlier for count, earlier in zip(now, before, strict=True)) if before else now


def _rows(serving: ServingMetrics) -> dict[Version, Counts]:
    """Rows answered, refused and failed, by version, since the process began.

    A version that is being loaded may have some of its series only.
    """
    found: defaultdict[Version, Counter[str]] = defaultdict(Counter)
    for family in serving.predictions.collect():
        for sample in family.samples:
            if not sample.name.endswith("_total"):
                continue  # when the series was made
            version = sample.labels["model_name"], sample.labels["model_version"]
            found[version][sample.labels["status"]] += int(sample.value)
    return {
        version: (rows["ok"] + rows["replayed"], rows["refused"], rows["failed"]) for version, rows in found.items()
    }


REFRESH_S = 300
"""Time after which an alert that goes on firing gets its latest figures."""


class OverdueChecks(Protocol):
    """Knows since when each check has been due."""

    def read(self, connection: Connection, schema: ModelSchema) -> dict[str, OverdueCheck]:
        """For each kind of check, the seconds that it has been due, and may be."""


def read_service(connection: Connection, schema: ModelSchema, overdue: OverdueChecks) -> Report:
    """Report what the active version did in all replicas, in the last minutes."""
    now = database_now(connection)
    activation = read_activation(connection, schema.name)
    start = max(Micros(now - KEPT_S * SECOND), began_at(activation))
    parts = [
        [step for step in pulse.steps if step.began >= start]
        for pulse in read_pulses(connection, schema.name, schema.version)
    ]
    figures: ServiceFigures = {
        "window": {"from": to_rfc3339(start), "to": to_rfc3339(now)},
        "service": describe([*chain(*parts)], replicas=sum(map(bool, parts))),
        "checks": overdue.read(connection, schema),
        "rolled_back": last_rollback(activation, now=now),
        "errors": [],
    }
    body: ServiceReport = {**figures, "status": "warning" if any(judge_service(figures).values()) else "ok"}
    return Report(new_id(now * 1000), "service", schema.name, schema.version, now, body["status"], body)


def end_of_earlier(connection: Connection, report: Report) -> Report | None:
    """A report that resolves the alert of an earlier rollback; the latest one gets its own."""
    last = alerts.latest(connection, report.model_name, report.model_version, "rolled_back")
    latest = began_at(read_activation(connection, report.model_name))
    if last is None or not last.is_open or last.since >= latest:
        return None
    at = Micros(report.checked_at - 1)
    return replace(
        report,
        report_id=new_id(at * 1000),
        checked_at=at,
        status="ok",
        body={"status": "ok", "rolled_back": None, "errors": []},
    )


def changes_an_alert(connection: Connection, report: Report, verdicts: Verdicts) -> bool:
    """Whether an alert begins, ends, is pending, or has figures older than ``REFRESH_S``."""
    for rule, finding in verdicts.items():
        last = alerts.latest(connection, report.model_name, report.model_version, rule)
        is_open = last is not None and last.is_open
        if finding is None and is_open:
            return True
        if finding is not None and (
            last is None or last.state != "firing" or report.checked_at - last.changed_at >= REFRESH_S * SECOND
        ):
            return True
    return False


class ServiceEvaluation:
    """Evaluates the service over all replicas; it saves a report only where an alert changes."""

    def __init__(
        self,
        *,
        journal: Journal,
        readers: Readers,
        versions: VersionSource,
        overdue: OverdueChecks,
        listener: ReportListener,
        rules: RuleSet | None = None,
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._versions = versions
        self._overdue = overdue
        self._listener = listener
        self._rules = rules or RuleSet()
        self._running = asyncio.Lock()  # two evaluations at once would save the same report twice
        self._log = structlog.get_logger("heartbeat")

    async def run(self) -> None:
        """Evaluate the service once.

        Raises:
            Unavailable: the store cannot be reached.
        """
        async with self._running:
            served = self._versions.served()
            found = await self._readers.run(self._read, served.active)
            if found:
                await self._journal.run(partial(self._save, found, served))
                self._log.info("service_judged", status=found[-1].status, report_id=found[-1].report_id)

    def _save(self, found: Sequence[Report], served: ServedVersions, connection: Connection) -> None:
        for report in found:
            reports.save(connection, report)
            self._listener.on_report(connection, report, served)

    def _read(self, connection: Connection, active: ModelSchema) -> Sequence[Report]:
        report = read_service(connection, active, self._overdue)
        if ended := end_of_earlier(connection, report):
            return [ended, report]
        verdicts = evaluate_service(connection, report, self._rules)
        return [report] if changes_an_alert(connection, report, verdicts) else []
