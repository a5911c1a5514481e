"""Alerts: their rows, transitions and silences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, RowMapping, Select, and_, case, delete, func, insert, or_, select, update

from app.store.queries.replicas import database_now
from app.store.tables import ALERTS, SILENCES, from_text, to_text
from app.types import SECOND, Micros, Report, Severity, new_id

SEVERITIES: tuple[Severity, ...] = ("critical", "high", "medium", "low")
"""The worst first."""
State: TypeAlias = Literal["pending", "firing", "resolved", "passed"]
"""What the rule says; ``passed`` was pending and never fired. Who is on it, and who may not be told, is kept beside."""
RECENT_S = 7 * 86_400
"""How long a resolved alert is still shown."""
MAX_RESOLVED_SHOWN, MAX_HISTORY_SHOWN = 50, 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Describe a rule that holds: value, limit, message, and up to three causes."""

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
        """Give the time at which the rule no longer held, or None."""
        return self.changed_at if self.state == "resolved" else None

    @property
    def is_open(self) -> bool:
        """Tell whether the rule still holds."""
        return self.state in ("pending", "firing")


def shown(connection: Connection, name: str, version: str, *, start: Micros | None = None) -> Sequence[Alert]:
    """Read the alerts to show: firing, then pending, then resolved ones.

    Resolved ones are those of the last week; with ``start``, all are those that began since then.

    Firing alerts are sorted by severity and age, resolved ones by time, the latest first.
    """
    late, most = ALERTS.c.changed_at >= database_now(connection) - RECENT_S * SECOND, MAX_RESOLVED_SHOWN
    if start is not None:
        late, most = ALERTS.c.since >= start, MAX_HISTORY_SHOWN
    resolved = _of(name, version, "resolved").where(late).order_by(ALERTS.c.changed_at.desc()).limit(most)
    found = [*still_open(connection, name, version), *map(_alert, connection.execute(resolved).mappings())]
    return [alert for alert in found if start is None or alert.since >= start]


def still_open(connection: Connection, name: str, version: str) -> Sequence[Alert]:
    """Read the open alerts: firing ones by severity and age, then pending ones."""
    return _open(connection, name, version, "firing", "pending")


def firing(connection: Connection, name: str, version: str) -> Sequence[Alert]:
    """Read the firing alerts of a version by severity and age."""
    return _open(connection, name, version, "firing")


def told(connection: Connection, *, since: Micros) -> Sequence[Alert]:
    """Of any version, what fires and has been told, and what of it was resolved since a moment."""
    lasting = or_(ALERTS.c.state == "firing", and_(ALERTS.c.state == "resolved", ALERTS.c.changed_at >= since))
    found = select(ALERTS).where(ALERTS.c.told_at.is_not(None), lasting).order_by(ALERTS.c.since, ALERTS.c.alert_id)
    return [_alert(row) for row in connection.execute(found).mappings()]


def unwatched(connection: Connection, name: str, watched: Collection[str]) -> Sequence[Alert]:
    """Read the open alerts of other models, and of versions that are not in ``watched``."""
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
    """Acknowledge a firing alert. The first acknowledgement stays.

    None means that no alert has this id.
    """
    fresh = (ALERTS.c.alert_id == alert_id, ALERTS.c.state == "firing", ALERTS.c.acknowledged_at.is_(None))
    values = {"acknowledged_at": database_now(connection), "acknowledged_by": by}
    connection.execute(update(ALERTS).where(*fresh).values(values))
    return get(connection, alert_id)


def _open(connection: Connection, name: str, version: str, *states: State) -> list[Alert]:
    """The alerts in some states, firing before pending, then by severity and age."""
    table = ALERTS.c
    rank = case({severity: place for place, severity in enumerate(SEVERITIES)}, value=table.severity)
    found = _of(name, version, *states).order_by(table.state, rank, table.since, table.alert_id)
    return [_alert(row) for row in connection.execute(found).mappings()]


def _of(name: str, version: str, *states: State) -> Any:
    table = ALERTS.c
    return select(ALERTS).where(table.model_name == name, table.model_version == version, table.state.in_(states))


def _alert(row: RowMapping) -> Alert:
    columns = dict(row)
    body = from_text(columns.pop("body"))
    finding = Finding(**(body | {"severity": columns.pop("severity"), "causes": tuple(body["causes"])}))
    return Alert(finding=finding, **columns)


@dataclass(frozen=True, slots=True)
class Matcher:
    """Say which alerts a silence covers: those that fit every field that is set.

    Attributes:
        feature: fits an alert that is about this feature alone, so that a second one is still heard of.
    """

    rule: str | None = None
    severity: Severity | None = None
    feature: str | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """One row; ``ended_at`` is set where it was ended before its time."""

    silence_id: str
    matcher: Matcher
    starts_at: Micros
    ends_at: Micros
    reason: str
    created_by: str | None
    created_at: Micros
    ended_at: Micros | None = None

    def covers(self, alert: Alert) -> bool:
        """Tell whether this silence covers an alert."""
        wanted = self.matcher
        return (
            wanted.rule in (None, alert.rule)
            and wanted.severity in (None, alert.finding.severity)
            and (wanted.feature is None or alert.finding.causes == (wanted.feature,))
        )


MAX_SILENCES = 1_000
"""Silences that may be planned at once, and ended ones that are kept."""


def add_silence(connection: Connection, silence: Silence) -> bool:
    """Store a silence, unless too many are planned; False then.

    Of those that have ended, the latest are kept.
    """
    planned = select(func.count()).select_from(_lasting(silence.created_at).subquery())
    if connection.execute(planned).scalar_one() >= MAX_SILENCES:
        return False
    ended = SILENCES.c.silence_id.not_in(_lasting(silence.created_at).with_only_columns(SILENCES.c.silence_id))
    until = func.coalesce(SILENCES.c.ended_at, SILENCES.c.ends_at)
    old = select(SILENCES.c.silence_id).where(ended).order_by(until.desc()).limit(MAX_SILENCES).offset(MAX_SILENCES)
    connection.execute(delete(SILENCES).where(SILENCES.c.silence_id.in_(old)))
    values = asdict(silence)
    connection.execute(insert(SILENCES).values(values.pop("matcher") | values))
    return True


def end_silence(connection: Connection, silence_id: str) -> Silence | None:
    """End a silence now, unless it has ended. None: no silence has this id."""
    now = database_now(connection)
    running = (SILENCES.c.silence_id == silence_id, SILENCES.c.ended_at.is_(None), SILENCES.c.ends_at > now)
    connection.execute(update(SILENCES).where(*running).values(ended_at=now))
    row = connection.execute(select(SILENCES).where(SILENCES.c.silence_id == silence_id)).mappings().first()
    return None if row is None else _silence_of(row)


def active_silences(connection: Connection, *, at: Micros) -> Sequence[Silence]:
    """Every silence that covers this moment."""
    return [silence for silence in planned_silences(connection, at=at) if silence.starts_at <= at]


def planned_silences(
    connection: Connection, *, at: Micros, limit: int = MAX_SILENCES, after: str = ""
) -> Sequence[Silence]:
    """The silences that have not ended by this moment, the first to end first.

    Args:
        after: continue behind this silence.
    """
    table, wanted = SILENCES.c, _lasting(at)
    if after:
        last = select(table.ends_at).where(table.silence_id == after).scalar_subquery()
        wanted = wanted.where(or_(table.ends_at > last, and_(table.ends_at == last, table.silence_id > after)))
    wanted = wanted.order_by(table.ends_at, table.silence_id).limit(limit)
    return [_silence_of(row) for row in connection.execute(wanted).mappings()]


def _lasting(at: Micros) -> Select[Any]:
    table = SILENCES.c
    return select(SILENCES).where(table.ends_at > at, or_(table.ended_at.is_(None), table.ended_at > at))


def purge_silences(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete up to ``limit`` silences that ended before a moment; the number deleted."""
    until = func.coalesce(SILENCES.c.ended_at, SILENCES.c.ends_at)
    old = select(SILENCES.c.silence_id).where(until < before).limit(limit)
    return connection.execute(delete(SILENCES).where(SILENCES.c.silence_id.in_(old))).rowcount


def _silence_of(row: RowMapping) -> Silence:
    columns = dict(row)
    matcher = Matcher(*(columns.pop(name) for name in ("rule", "severity", "feature")))
    return Silence(matcher=matcher, **columns)


@dataclass(frozen=True, slots=True)
class Change:
    """Hold an event to notify of: an alert fires, or it has ended.

    ``because`` says why it has ended.
    """

    event: Literal["firing", "resolved"]
    alert: Alert
    because: str = "The rule no longer holds."


def record(
    connection: Connection, report: Report, verdicts: Mapping[str, Finding | None], checks: Mapping[str, int]
) -> list[Change]:
    """Open, refresh or resolve the alert of each judged rule.

    None as a verdict means that the rule does not hold.

    A rule is pending until it has held in as many reports in a row as ``checks`` says, by default one. What fires under
    a silence is told when the silence ends; who was told that it fires is told of the end, silence or not.
    A report that is not newer than the rule's last change changes nothing, so that recording it twice is harmless. Two
    replicas that open one alert at once meet in a unique index: the second is refused, and refreshes when repeated.

    Returns:
        what must be told: of an alert its begin and its end, each once.
    """
    silences = active_silences(connection, at=report.checked_at)
    changes: list[Change | None] = []
    for rule, finding in verdicts.items():
        last = latest(connection, report.model_name, report.model_version, rule)
        if last is not None and last.changed_at >= report.checked_at:
            continue
        before = last if last is not None and last.is_open else None
        if finding is not None:
            changes.append(_hold(connection, report, rule, finding, before, checks.get(rule, 1), silences))
        elif before is not None:
            changes.append(end_alert(connection, report.checked_at, before))
    return [change for change in changes if change is not None]


def keep(connection: Connection, alert: Alert) -> None:
    """Store a firing alert that was announced during an outage of the store.

    If another replica has stored it, that row stays.
    """
    last = latest(connection, alert.model_name, alert.model_version, alert.rule)
    if last is None or (not last.is_open and last.changed_at < alert.since):
        connection.execute(insert(ALERTS).values(_row(alert)))


def firing_unsilenced(connection: Connection, name: str, version: str, *, now: Micros) -> list[Change]:
    """Give an event for each firing alert of a version that no silence covers, new or not.

    The caller notifies every receiver that has not heard of the alert as it is now.
    """
    silences = active_silences(connection, at=now)
    unsilenced = [
        alert for alert in firing(connection, name, version) if not any(silence.covers(alert) for silence in silences)
    ]
    for alert in unsilenced:
        if alert.told_at is None:
            connection.execute(update(ALERTS).where(ALERTS.c.alert_id == alert.alert_id).values(told_at=now))
    return [Change("firing", replace(alert, told_at=alert.told_at or now)) for alert in unsilenced]


def resolve_others(connection: Connection, name: str, watched: Collection[str], *, now: Micros) -> list[Change]:
    """Resolve the open alerts of versions and models that no check looks at any more.

    No report will ever end these alerts.

    Returns:
        what must be told.
    """
    others = unwatched(connection, name, watched)
    changes = [end_alert(connection, Micros(max(now, alert.changed_at)), alert) for alert in others]
    because = "This version no longer answers."
    return [replace(change, because=because) for change in changes if change is not None]


def _hold(
    connection: Connection,
    report: Report,
    rule: str,
    finding: Finding,
    before: Alert | None,
    needed: int,
    silences: Sequence[Silence],
) -> Change | None:
    """Open or refresh the alert of a rule that holds."""
    opened = before or _opened(report, rule, finding)
    held = opened.held + 1
    fires = opened.state == "firing" or held >= needed
    now = replace(
        opened,
        state="firing" if fires else "pending",
        finding=finding,
        changed_at=report.checked_at,
        held=held,
        report_id=report.report_id,
    )
    tells = fires and now.told_at is None and not any(silence.covers(now) for silence in silences)
    if tells:
        now = replace(now, told_at=report.checked_at)
    if before is None:
        connection.execute(insert(ALERTS).values(_row(now)))
    else:
        connection.execute(update(ALERTS).where(ALERTS.c.alert_id == now.alert_id).values(_row(now)))
    return Change("firing", now) if tells else None


def end_alert(connection: Connection, at: Micros, before: Alert) -> Change | None:
    """Resolve the alert of a rule that no longer holds; one that never fired has passed."""
    now = replace(before, state="resolved" if before.state == "firing" else "passed", changed_at=at)
    ended = {"state": now.state, "changed_at": now.changed_at}
    connection.execute(update(ALERTS).where(ALERTS.c.alert_id == now.alert_id).values(ended))
    return None if now.told_at is None else Change("resolved", now)


def _opened(report: Report, rule: str, finding: Finding) -> Alert:
    at = report.checked_at
    name, version = report.model_name, report.model_version
    return Alert(new_id(at * 1000), rule, name, version, "pending", finding, at, at, 0, report.report_id)


def _row(alert: Alert) -> dict[str, Any]:
    values = asdict(alert)
    finding = values.pop("finding")
    return values | {"severity": finding["severity"], "body": to_text(finding)}
