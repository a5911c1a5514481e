"""Alerts as they are read: what fires, what may, what was resolved lately; and who has said that they are on it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, RowMapping, and_, case, delete, or_, select, update

from app.store.encoding import from_text
from app.store.leases import database_now
from app.store.tables import ALERTS
from app.types import SECOND, Micros, Severity

SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
"""The worst first."""
State: TypeAlias = Literal["pending", "firing", "resolved", "passed"]
"""What the rule says; ``passed`` was pending and never fired. Who is on it, and who may not be told, is kept beside."""
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
    """One row: a rule that holds, or held until ``changed_at``.

    Attributes:
        finding: that of the last report in which the rule held, ``report_id``.
        since: the first report of this run of them.
        changed_at: the last report that was looked at.
        held: reports in a row in which the rule held.
        told_at: when it was first handed over for delivery; None while nobody need know.
    """

    alert_id: str
    rule: str
    model_name: str
    model_version: str
    state: State
    finding: Finding
    since: Micros
    changed_at: Micros
    held: int
    report_id: str
    told_at: Micros | None = None
    acknowledged_at: Micros | None = None
    acknowledged_by: str | None = None

    @property
    def resolved_at(self) -> Micros | None:
        """When the rule no longer held."""
        return self.changed_at if self.state == "resolved" else None

    @property
    def is_open(self) -> bool:
        """Whether the rule still holds."""
        return self.state in ("pending", "firing")


def shown(connection: Connection, name: str, version: str) -> Sequence[Alert]:
    """What fires, the worst and oldest first; what is pending; then what was resolved lately, the latest first."""
    since = database_now(connection) - RECENT_S * SECOND
    resolved = _of(name, version, "resolved").where(ALERTS.c.changed_at >= since)
    recent = connection.execute(resolved.order_by(ALERTS.c.changed_at.desc()).limit(MOST_RESOLVED)).mappings()
    return [*still_open(connection, name, version), *map(_alert, recent)]


def still_open(connection: Connection, name: str, version: str) -> Sequence[Alert]:
    """What fires, the worst and oldest first, then what is pending."""
    return [*firing(connection, name, version), *_open(connection, name, version, "pending")]


def firing(connection: Connection, name: str, version: str) -> Sequence[Alert]:
    """What fires, the worst and oldest first."""
    return _open(connection, name, version, "firing")


def told(connection: Connection, *, since: Micros) -> Sequence[Alert]:
    """Of any version, what fires and has been told, and what of it was resolved since a moment."""
    lasting = or_(ALERTS.c.state == "firing", and_(ALERTS.c.state == "resolved", ALERTS.c.changed_at >= since))
    found = select(ALERTS).where(ALERTS.c.told_at.is_not(None), lasting).order_by(ALERTS.c.since, ALERTS.c.alert_id)
    return [_alert(row) for row in connection.execute(found).mappings()]


def unwatched(connection: Connection, name: str, watched: Collection[str]) -> Sequence[Alert]:
    """What fires or is pending on other models, or on other versions of this one than these."""
    table = ALERTS.c
    others = (
        or_(table.model_name != name, table.model_version.not_in(watched)),
        table.state.in_(("pending", "firing")),
    )
    return [_alert(row) for row in connection.execute(select(ALERTS).where(*others)).mappings()]


def purge(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete up to ``limit`` alerts that ended before a moment; the number deleted."""
    ended = (ALERTS.c.state.in_(("resolved", "passed")), ALERTS.c.changed_at < before)
    old = select(ALERTS.c.alert_id).where(*ended).limit(limit)
    return connection.execute(delete(ALERTS).where(ALERTS.c.alert_id.in_(old))).rowcount


def get(connection: Connection, alert_id: str) -> Alert | None:
    """One alert by its id."""
    row = connection.execute(select(ALERTS).where(ALERTS.c.alert_id == alert_id)).mappings().first()
    return None if row is None else _alert(row)


def latest(connection: Connection, name: str, version: str, rule: str) -> Alert | None:
    """The alert of a rule that changed last."""
    table = ALERTS.c
    mine = select(ALERTS).where(table.model_name == name, table.model_version == version, table.rule == rule)
    mine = mine.order_by(table.changed_at.desc(), table.alert_id.desc()).limit(1)
    row = connection.execute(mine).mappings().first()
    return None if row is None else _alert(row)


def acknowledge(connection: Connection, alert_id: str, *, by: str | None) -> Alert | None:
    """Note that somebody is on a firing alert; the first who says so stays. None: no alert has this id."""
    fresh = (ALERTS.c.alert_id == alert_id, ALERTS.c.state == "firing", ALERTS.c.acknowledged_at.is_(None))
    values = {"acknowledged_at": database_now(connection), "acknowledged_by": by}
    connection.execute(update(ALERTS).where(*fresh).values(values))
    return get(connection, alert_id)


def _open(connection: Connection, name: str, version: str, state: State) -> list[Alert]:
    rank = case({severity: place for place, severity in enumerate(SEVERITIES)}, value=ALERTS.c.severity)
    found = connection.execute(_of(name, version, state).order_by(rank, ALERTS.c.since, ALERTS.c.alert_id)).mappings()
    return [_alert(row) for row in found]


def _of(name: str, version: str, state: State) -> Any:
    return select(ALERTS).where(ALERTS.c.model_name == name, ALERTS.c.model_version == version, ALERTS.c.state == state)


def _alert(row: RowMapping) -> Alert:
    columns = dict(row)
    body = from_text(columns.pop("body"))
    finding = Finding(**(body | {"severity": columns.pop("severity"), "causes": tuple(body["causes"])}))
    return Alert(finding=finding, **columns)
