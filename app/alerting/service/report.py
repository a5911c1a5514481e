"""The service report: usage of all replicas, judged by the service rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TypeAlias

import structlog

from app.alerting.evaluation import judge_beats
from app.alerting.rules.configured import RuleSet
from app.alerting.rules.drift import Verdicts
from app.alerting.rules.service import describe, judge_service
from app.alerting.service.outage import AfterReport
from app.alerting.service.rollback import began_at, last_rollback
from app.alerting.service.usage import KEPT_S
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries import alerts, reports
from app.store.queries.replicas import database_now, read_pulses
from app.store.queries.versions import read_activation
from app.types import SECOND, Json, Micros, ModelSchema, Report, new_id, to_rfc3339

REFRESH_S = 300
"""Time after which an alert that goes on firing gets its latest figures."""
Overdue: TypeAlias = Callable[[Connection], Json]
"""For each check, how long it has been due, and how long it may be."""


def read_service(connection: Connection, schema: ModelSchema, overdue: Overdue) -> Report:
    """What the active version did in the last minutes, in all replicas, since it was activated."""
    now = database_now(connection)
    activation = read_activation(connection, schema.name)
    start = max(Micros(now - KEPT_S * SECOND), began_at(activation))
    parts = [
        [step for step in pulse.steps if step.began >= start]
        for pulse in read_pulses(connection, schema.name, schema.version)
    ]
    body: Json = {
        "window": {"from": to_rfc3339(start), "to": to_rfc3339(now)},
        "service": describe([*chain(*parts)], replicas=sum(map(bool, parts))),
        "checks": overdue(connection),
        "rolled_back": last_rollback(activation, now=now),
        "errors": [],
    }
    body["status"] = "warning" if any(judge_service(body).values()) else "ok"
    return Report(new_id(now * 1000), "service", schema.name, schema.version, now, body["status"], body)


def end_of_earlier(connection: Connection, report: Report) -> Report | None:
    """A report that ends the alert of a rollback before the latest one, so that each is an alert of its own."""
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


def says_more(connection: Connection, report: Report, verdicts: Verdicts) -> bool:
    """Whether an alert begins, ends, is still pending, or has not been brought up to date for a while."""
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


class Judging:
    """Reads what all replicas did, and saves reports of it where an alert is to change by them."""

    def __init__(
        self,
        *,
        journal: Journal,
        readers: Readers,
        schema: Callable[[], ModelSchema],
        overdue: Overdue,
        after: AfterReport,
        rules: RuleSet | None = None,
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._schema = schema
        self._overdue = overdue
        self._after = after
        self._rules = rules or RuleSet()
        self._turn = asyncio.Lock()  # two at once would save the same report twice
        self._log = structlog.get_logger("watch")

    async def judge(self) -> None:
        """Judge the service once.

        Raises:
            Unavailable: the store cannot be reached.
        """
        async with self._turn:
            found = await self._readers.run(self._read)
            if found:
                await self._journal.run(partial(self._save, found))
                self._log.info("service_judged", status=found[-1].status, report_id=found[-1].report_id)

    def _save(self, found: Sequence[Report], connection: Connection) -> None:
        for report in found:
            reports.save(connection, report)
            self._after(connection, report)

    def _read(self, connection: Connection) -> Sequence[Report]:
        report = read_service(connection, self._schema(), self._overdue)
        if ended := end_of_earlier(connection, report):
            return [ended, report]
        return [report] if says_more(connection, report, judge_beats(connection, report, self._rules)) else []
