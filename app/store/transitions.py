"""From one report to the next: alerts open, are refreshed and resolved. At most one of a rule fires; old rows stay."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, insert, update

from app.ids import new_id
from app.store.alerts import Alert, Finding, firing, latest, unwatched
from app.store.encoding import to_text
from app.store.silences import Silence, active
from app.store.tables import ALERTS
from app.types import Micros, Report


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody must be told: a rule fires, or it has ended ``because`` of something."""

    event: Literal["firing", "resolved"]
    alert: Alert
    because: str = "The rule no longer holds."


def record(
    connection: Connection, report: Report, verdicts: Mapping[str, Finding | None], checks: Mapping[str, int]
) -> list[Change]:
    """Open, refresh or resolve the alert of each judged rule: None means that the rule does not hold.

    A rule is pending until it has held in as many reports in a row as ``checks`` says, by default one. What fires under
    a silence is told when the silence ends; who was told that it fires is told of the end, silence or not.
    A report that is not newer than the rule's last change changes nothing, so that recording it twice is harmless. Two
    replicas that open one alert at once meet in a unique index: the second is refused, and refreshes when repeated.

    Returns:
        what must be told: of an alert its begin and its end, each once.
    """
    silences = active(connection, at=report.checked_at)
    changes: list[Change | None] = []
    for rule, finding in verdicts.items():
        last = latest(connection, report.model_name, report.model_version, rule)
        if last is not None and last.changed_at >= report.checked_at:
            continue
        before = last if last is not None and last.is_open else None
        if finding is not None:
            changes.append(_hold(connection, report, rule, finding, before, checks.get(rule, 1), silences))
        elif before is not None:
            changes.append(_end(connection, report.checked_at, before))
    return [change for change in changes if change is not None]


def keep(connection: Connection, alert: Alert) -> None:
    """Store a firing alert that was told of while it could not be stored; what another replica has stored stands."""
    last = latest(connection, alert.model_name, alert.model_version, alert.rule)
    if last is None or (not last.is_open and last.changed_at < alert.since):
        connection.execute(insert(ALERTS).values(_row(alert)))


def aloud(connection: Connection, name: str, version: str, *, now: Micros) -> list[Change]:
    """What fires on a version and is not silenced, new or not: who has not heard of it as it is must be told."""
    silences = active(connection, at=now)
    heard = [
        alert for alert in firing(connection, name, version) if not any(silence.covers(alert) for silence in silences)
    ]
    for alert in heard:
        if alert.told_at is None:
            connection.execute(update(ALERTS).where(ALERTS.c.alert_id == alert.alert_id).values(told_at=now))
    return [Change("firing", replace(alert, told_at=alert.told_at or now)) for alert in heard]


def resolve_others(connection: Connection, name: str, watched: Collection[str], *, now: Micros) -> list[Change]:
    """Resolve the open alerts of versions, and of models, that are watched no longer: no report will ever end them.

    Returns:
        what must be told.
    """
    others = unwatched(connection, name, watched)
    changes = [_end(connection, Micros(max(now, alert.changed_at)), alert) for alert in others]
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


def _end(connection: Connection, at: Micros, before: Alert) -> Change | None:
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
