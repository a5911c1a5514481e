"""The service report: the usage of all replicas, evaluated by the service rules."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Protocol

import structlog

from app.alerting.evaluation import evaluate_service
from app.alerting.rules.configured import RuleSet
from app.alerting.rules.drift import Verdicts
from app.alerting.rules.service import describe, judge_service
from app.alerting.service.rollback import began_at, last_rollback
from app.alerting.service.usage import KEPT_S
from app.reports.service import OverdueCheck, ServiceFigures, ServiceReport
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries import alerts, reports
from app.store.queries.replicas import database_now, read_pulses
from app.store.queries.reports import ReportListener
from app.store.queries.versions import read_activation
from app.types import SECOND, Micros, ModelSchema, Report, ServedVersions, VersionSource, new_id, to_rfc3339

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
