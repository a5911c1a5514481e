"""The service report: the figures of all replicas over the last minutes, and whether it says anything new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import TypeAlias

from app.alerting.meter import KEPT_S
from app.alerting.probation import began_at, last_rollback
from app.alerting.rules import Verdicts
from app.alerting.service_rules import describe, judge_service
from app.ids import new_id
from app.store import alerts
from app.store.engine import Connection
from app.store.leases import database_now
from app.store.pulses import read_pulses
from app.store.settings import read_activation
from app.types import SECOND, Json, Micros, ModelSchema, Report, to_rfc3339

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
