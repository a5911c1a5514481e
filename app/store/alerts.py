"""Alerts: the state of each rule over the reports of a version. At most one row of a rule fires; resolved rows stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Row, case, insert, select, update

from app.ids import new_id
from app.store.encoding import from_text, to_text
from app.store.leases import database_now
from app.store.tables import ALERTS
from app.types import SECOND, Micros, Report

Severity: TypeAlias = Literal["critical", "high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
"""The worst first."""
RECENT_S = 7 * 86_400
"""How long a resolved alert is still shown."""
MOST_RESOLVED = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that holds: the value that crossed the limit, in words, and up to three features that may be behind it."""

    severity: Severity
    value: float | None
    limit: float | None
    message: str
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """One row: a rule that fires, or fired until ``resolved_at``; the finding is that of the last report it held in."""

    alert_id: str
    rule: str
    finding: Finding
    since: Micros
    resolved_at: Micros | None
    report_id: str


def record(connection: Connection, report: Report, verdicts: Mapping[str, Finding | None]) -> None:
    """Open, refresh or resolve the alert of each judged rule: None means that the rule does not hold.

    A report that is not newer than the rule's last change changes nothing, so that recording it twice is harmless. Two
    replicas that open one alert at once meet in a unique index: the second is refused, and refreshes when repeated.
    """
    for rule, finding in verdicts.items():
        last = _latest(connection, report, rule)
        if last is not None and last.changed_at >= report.checked_at:
            continue
        firing = last is not None and last.state == "firing"
        if finding is None and not firing:
            continue
        changes: dict[str, Any] = {"state": "resolved", "changed_at": report.checked_at}
        if finding is not None:
            changes = {"state": "firing", "changed_at": report.checked_at, "report_id": report.report_id}
            changes |= {"severity": finding.severity, "body": to_text(asdict(finding))}
        if last is not None and firing:
            connection.execute(update(ALERTS).where(ALERTS.c.alert_id == last.alert_id).values(changes))
        else:
            connection.execute(insert(ALERTS).values(_opened(report, rule) | changes))


def shown(connection: Connection, name: str, version: str) -> Sequence[Alert]:
    """What fires, the worst and oldest first; then what was resolved lately, the latest first."""
    since = database_now(connection) - RECENT_S * SECOND
    resolved = _of(name, version, "resolved").where(ALERTS.c.changed_at >= since)
    recent = connection.execute(resolved.order_by(ALERTS.c.changed_at.desc()).limit(MOST_RESOLVED))
    return [*firing(connection, name, version), *map(_alert, recent)]


def firing(connection: Connection, name: str, version: str) -> Sequence[Alert]:
    """What fires, the worst and oldest first."""
    rank = case({severity: place for place, severity in enumerate(SEVERITIES)}, value=ALERTS.c.severity)
    found = connection.execute(_of(name, version, "firing").order_by(rank, ALERTS.c.since, ALERTS.c.alert_id))
    return [_alert(row) for row in found]


def _of(name: str, version: str, state: str) -> Any:
    return select(ALERTS).where(ALERTS.c.model_name == name, ALERTS.c.model_version == version, ALERTS.c.state == state)


def _latest(connection: Connection, report: Report, rule: str) -> Row[Any, Any, Any] | None:
    table = ALERTS.c
    mine = select(table.alert_id, table.state, table.changed_at).where(
        table.model_name == report.model_name, table.model_version == report.model_version, table.rule == rule
    )
    return connection.execute(mine.order_by(table.changed_at.desc(), table.alert_id.desc()).limit(1)).first()


def _opened(report: Report, rule: str) -> dict[str, Any]:
    return {
        "alert_id": new_id(report.checked_at * 1000),
        "rule": rule,
        "model_name": report.model_name,
        "model_version": report.model_version,
        "since": report.checked_at,
    }


def _alert(row: Row[Any]) -> Alert:
    body = from_text(row.body)
    finding = Finding(**(body | {"causes": tuple(body["causes"])}))
    resolved_at = row.changed_at if row.state == "resolved" else None
    return Alert(row.alert_id, row.rule, finding, row.since, resolved_at, row.report_id)
