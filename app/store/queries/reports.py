"""Reports, what was accepted of them, and figures over time, in slots of five minutes.

A summary of months reads these sums. It would read every prediction and every report otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from sqlalchemy import Connection, RowMapping, and_, case, delete, func, insert, or_, select, update

from app.store.tables import ACCEPTANCES, ALERTS, FIGURES, REPORTS, from_text, insert_into, to_text
from app.types import SECOND, Json, Micros, Report, ServedVersions, new_id

KINDS = ("drift", "performance", "service")
MAX_PURGED_REPORTS = 20
"""Reports deleted in one transaction: each is up to some hundred kilobytes."""


class ReportListener(Protocol):
    """Writes the alerts and messages that follow from a report.

    It does so in the transaction that saves the report.
    """

    def on_report(self, connection: Connection, report: Report, served: ServedVersions) -> None:
        """Write it. The writer thread calls this, so ``served`` is a snapshot from the event loop."""


def save(connection: Connection, report: Report) -> None:
    """Store a report and its figures; reports are never changed."""
    values = {
        name: getattr(report, name)
        for name in ("report_id", "kind", "model_name", "model_version", "checked_at", "status")
    }
    connection.execute(insert(REPORTS).values(**values, body=to_text(report.body)))
    found = figures_of(report)
    add_figures(connection, report.model_name, report.model_version, found, at=report.checked_at)


def latest(connection: Connection, kind: str, name: str, version: str) -> Report | None:
    """Read the newest report of a kind on a version.

    A check that failed says nothing about the model, and its report is passed over.
    """
    return next(iter(history(connection, kind, name, version, newest_first=True, failed=False, limit=1)), None)


def latest_of_each(connection: Connection, name: str, version: str) -> dict[str, Report]:
    """The newest report of every kind on a version."""
    found = {kind: latest(connection, kind, name, version) for kind in KINDS}
    return {kind: report for kind, report in found.items() if report}


def purge(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete old reports that no alert refers to, and give their number.

    By their ids, which sort by time: a look that finds nothing costs nothing.
    """
    of_alerts = select(ALERTS.c.report_id)
    old = select(REPORTS.c.report_id).where(
        REPORTS.c.report_id < new_id(before * 1000), REPORTS.c.report_id.not_in(of_alerts)
    )
    ids = list(connection.execute(old.order_by(REPORTS.c.report_id).limit(min(limit, MAX_PURGED_REPORTS))).scalars())
    connection.execute(delete(REPORTS).where(REPORTS.c.report_id.in_(ids)))
    return len(ids)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A report without its body."""

    report_id: str
    kind: str
    model_name: str
    model_version: str
    checked_at: Micros
    status: str


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """The reports that a caller asks for: those that fit everything that is set.

    Attributes:
        start, end: from this moment on, and before that one.
    """

    name: str | None = None
    version: str | None = None
    kind: str | None = None
    status: str | None = None
    start: Micros | None = None
    end: Micros | None = None


def find(connection: Connection, wanted: ReportFilter, *, after: str = "", limit: int) -> Sequence[ReportRow]:
    """The reports that fit, the latest first, behind the id ``after``. Bodies are not read."""
    table = REPORTS.c
    equal = {"model_name": wanted.name, "model_version": wanted.version, "kind": wanted.kind, "status": wanted.status}
    conditions = [table[name] == value for name, value in equal.items() if value is not None]
    if wanted.start is not None:
        conditions.append(table.checked_at >= wanted.start)
    if wanted.end is not None:
        conditions.append(table.checked_at < wanted.end)
    if after:
        conditions.append(table.report_id < after)
    columns = [table[field.name] for field in fields(ReportRow)]
    statement = select(*columns).where(*conditions).order_by(table.report_id.desc()).limit(limit)
    return [ReportRow(*row) for row in connection.execute(statement)]


def get(connection: Connection, report_id: str) -> Report | None:
    """One report by its id."""
    row = connection.execute(select(REPORTS).where(REPORTS.c.report_id == report_id)).first()
    return None if row is None else _report(row)


def history(
    connection: Connection,
    kind: str,
    name: str,
    version: str,
    *,
    start: Micros | None = None,
    end: Micros | None = None,
    after: str = "",
    limit: int,
    newest_first: bool = False,
    failed: bool = True,
) -> Sequence[Report]:
    """Reports of a kind in the order of their ids, which is that of their times.

    From ``start`` on, before ``end``, behind the id ``after``.
    """
    table = REPORTS.c
    statement = select(REPORTS).where(table.kind == kind, table.model_name == name, table.model_version == version)
    if start is not None:
        statement = statement.where(table.checked_at >= start)
    if end is not None:
        statement = statement.where(table.checked_at < end)
    if not failed:
        statement = statement.where(table.status != "error")
    if after:
        statement = statement.where(table.report_id > after)
    order = (table.checked_at.desc(), table.report_id.desc()) if newest_first else (table.report_id,)
    return [_report(row) for row in connection.execute(statement.order_by(*order).limit(limit))]


def spread(
    connection: Connection,
    kind: str,
    name: str,
    version: str,
    *,
    start: Micros | None = None,
    end: Micros | None = None,
    points: int,
) -> list[Micros]:
    """The times of at most so many reports of a kind, evenly over a period.

    Each is the last of its part of the period. The index alone is read, and no report.
    """
    table = REPORTS.c
    of_version = (table.kind == kind, table.model_name == name, table.model_version == version)
    edges = select(func.min(table.checked_at), func.max(table.checked_at)).where(*of_version)
    first, last = connection.execute(edges).one()
    if first is None:
        return []
    low = first if start is None else max(first, start)
    high = last if end is None else min(last, end - 1)
    if high < low:
        return []
    width = (high - low) // points + 1
    part = (table.checked_at - low) // width
    latest_of_part = select(func.max(table.checked_at)).where(*of_version, table.checked_at.between(low, high))
    return sorted(connection.execute(latest_of_part.group_by(part)).scalars())


def at(connection: Connection, kind: str, name: str, version: str, moments: Sequence[Micros]) -> Sequence[Report]:
    """The reports of a kind on a version at these times, by time."""
    table = REPORTS.c
    statement = select(REPORTS).where(
        table.kind == kind, table.model_name == name, table.model_version == version, table.checked_at.in_(moments)
    )
    return [_report(row) for row in connection.execute(statement.order_by(table.checked_at, table.report_id))]


def _report(row: Any) -> Report:
    body = from_text(row.body)
    return Report(row.report_id, row.kind, row.model_name, row.model_version, row.checked_at, row.status, body)


SLOT_S = 300
"""Length of a slot. Ninety days are 26,000 slots."""
MAX_ROWS = 500
"""Rows in one statement."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The sum of what was noted under one name.

    Attributes:
        count: how many values, or how many events.
        last: the value that was noted last.
    """

    count: int
    total: float = 0.0
    low: float = 0.0
    high: float = 0.0
    last: float = 0.0

    @classmethod
    def of(cls, value: float) -> Figure:
        """The figure of one value."""
        return cls(1, value, value, value, value)

    def plus(self, later: Figure) -> Figure:
        """The figure of both."""
        low, high = min(self.low, later.low), max(self.high, later.high)
        return Figure(self.count + later.count, self.total + later.total, low, high, later.last)


def slot_of(at: Micros) -> Micros:
    """The beginning of the slot that holds a moment."""
    return Micros(at - at % (SLOT_S * SECOND))


def add_figures(connection: Connection, name: str, version: str, found: Mapping[str, Figure], *, at: Micros) -> None:
    """Add figures of a version to the slot of a moment."""
    table, key = FIGURES.c, {"model_name": name, "model_version": version, "at": slot_of(at)}
    rows = [{**key, "name": figure, **asdict(values)} for figure, values in found.items()]
    for start in range(0, len(rows), MAX_ROWS):
        adding = insert_into(connection.dialect, FIGURES).values(rows[start : start + MAX_ROWS])
        new = adding.excluded
        sums = {
            "count": table.count + new.count,
            "total": table.total + new.total,
            "low": case((new.low < table.low, new.low), else_=table.low),
            "high": case((new.high > table.high, new.high), else_=table.high),
            "last": new["last"],
        }
        connection.execute(adding.on_conflict_do_update(index_elements=list(FIGURES.primary_key), set_=sums))


def figures_of(report: Report) -> dict[str, Figure]:
    """The figures of a report: the metrics that have a value, and the features that drifted."""
    found = {f"reports.{report.kind}": Figure(1)} if report.performance or report.drift else {}
    if body := report.performance:
        for basis in ("realised", "estimated"):
            metrics = body.get(basis, {}).get("metrics", {})  # type: ignore[attr-defined]  # either has metrics
            values = {name: metric["value"] for name, metric in metrics.items()}
            found |= {f"{basis}.{name}": Figure.of(value) for name, value in values.items() if value is not None}
    if drift := report.drift:
        found |= {f"drift.{feature}": Figure(1) for feature in drift.get("drifted_features", ())}
    return found


def read_figures(connection: Connection, name: str, version: str, *, start: Micros, end: Micros) -> dict[str, Figure]:
    """The sums over the slots from ``start`` on and before ``end``, by name."""
    table = FIGURES.c
    wanted = (table.model_name == name, table.model_version == version, table.at >= start, table.at < end)
    sums = (func.sum(table.count), func.sum(table.total), func.min(table.low), func.max(table.high), func.max(table.at))
    rows = connection.execute(select(table.name, *sums).where(*wanted).group_by(table.name)).all()
    last = _last_figures(connection, name, version, [(row[0], row[5]) for row in rows])
    return {row[0]: Figure(int(row[1]), float(row[2]), row[3], row[4], last[row[0]]) for row in rows}


def figures_by_part(
    connection: Connection, name: str, version: str, prefixes: Sequence[str], *, start: Micros, end: Micros, part: int
) -> dict[int, dict[str, Figure]]:
    """The sums of the figures with one of these prefixes, by the number of a part of time.

    Args:
        part: length of a part in microseconds; a multiple of a slot.
    """
    table = FIGURES.c
    number = (table.at - start) // part
    wanted = (table.model_name == name, table.model_version == version, table.at >= start, table.at < end)
    named = or_(*(table.name.startswith(prefix, autoescape=True) for prefix in prefixes))
    sums = (func.sum(table.count), func.sum(table.total), func.min(table.low), func.max(table.high))
    found: dict[int, dict[str, Figure]] = {}
    for place, figure, *values in connection.execute(
        select(number, table.name, *sums).where(*wanted, named).group_by(number, table.name)
    ):
        count, total, low, high = values
        found.setdefault(int(place), {})[figure] = Figure(int(count), float(total), low, high)
    return found


def _last_figures(
    connection: Connection, name: str, version: str, slots: Sequence[tuple[str, int]]
) -> dict[str, float]:
    """The latest value of each name, from its last slot."""
    table, found = FIGURES.c, dict[str, float]()
    for start in range(0, len(slots), MAX_ROWS // 5):
        some = or_(*(and_(table.name == figure, table.at == at) for figure, at in slots[start : start + MAX_ROWS // 5]))
        mine = (table.model_name == name, table.model_version == version, some)
        found |= {row[0]: float(row[1]) for row in connection.execute(select(table.name, table.last).where(*mine))}
    return found


def count_alerts(connection: Connection, name: str, version: str, *, start: Micros, end: Micros) -> dict[str, int]:
    """Count the alerts of a version that fired from ``start`` on and before ``end``, by rule."""
    table = ALERTS.c
    mine = (table.model_name == name, table.model_version == version, table.since < end)
    fired = or_(table.state == "firing", and_(table.state == "resolved", table.changed_at >= start))
    counts = select(table.rule, func.count()).where(*mine, fired).group_by(table.rule).order_by(table.rule)
    return {row[0]: int(row[1]) for row in connection.execute(counts)}


def purge_figures(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete up to ``limit`` old figures, and give their number."""
    table = FIGURES.c
    old = select(table.at).where(table.at < before).order_by(table.at).limit(1)
    oldest = connection.execute(old).scalar_one_or_none()
    if oldest is None:
        return 0
    key = (table.model_name, table.model_version, table.name)
    rows = connection.execute(select(*key).where(table.at == oldest).limit(limit)).all()
    mine = or_(*(and_(*(column == value for column, value in zip(key, row, strict=True))) for row in rows))
    return connection.execute(delete(FIGURES).where(table.at == oldest, mine)).rowcount


def merge_figures(parts: Iterable[Mapping[str, Figure]]) -> dict[str, Figure]:
    """The figures of several parts, the later ones behind."""
    found: dict[str, Figure] = {}
    for part in parts:
        for name, figure in part.items():
            found[name] = found[name].plus(figure) if name in found else figure
    return found


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One row: the state behind an alert, accepted as the new normal.

    Attributes:
        alert_id: the alert that it ended.
        kind: the kind of report that shows the state.
        report_id: the report whose state was accepted.
        body: ``reference``, the reference that the state is compared with; and ``parts``, what was measured of it.
        ended_at: since when it holds no longer; None while it does.
    """

    acceptance_id: str
    alert_id: str
    model_name: str
    model_version: str
    rule: str
    kind: str
    report_id: str
    accepted_at: Micros
    accepted_by: str | None
    reason: str
    body: Json
    ended_at: Micros | None = None


def add_acceptance(connection: Connection, made: Acceptance) -> None:
    """Store an acceptance."""
    connection.execute(insert(ACCEPTANCES).values(asdict(made) | {"body": to_text(made.body)}))


def acceptances_in_force(connection: Connection, kind: str, name: str, version: str) -> Sequence[Acceptance]:
    """Read the acceptances that hold for a kind of report on a version, the latest first."""
    table = ACCEPTANCES.c
    mine = (table.model_name == name, table.model_version == version, table.kind == kind, table.ended_at.is_(None))
    order = (table.accepted_at.desc(), table.acceptance_id.desc())
    found = connection.execute(select(ACCEPTANCES).where(*mine).order_by(*order)).mappings()
    return list(map(_acceptance, found))


def change_acceptance(connection: Connection, acceptance_id: str, body: Json, *, ended_at: Micros | None) -> None:
    """Store what is left of an accepted state, or that it has ended."""
    changed = update(ACCEPTANCES).where(ACCEPTANCES.c.acceptance_id == acceptance_id)
    connection.execute(changed.values(body=to_text(body), ended_at=ended_at))


def acceptances_of_alerts(connection: Connection, alert_ids: Collection[str]) -> Mapping[str, Acceptance]:
    """Read the acceptances that ended these alerts, by alert."""
    if not alert_ids:
        return {}
    found = select(ACCEPTANCES).where(ACCEPTANCES.c.alert_id.in_(alert_ids))
    return {row["alert_id"]: _acceptance(row) for row in connection.execute(found).mappings()}


def note_accepted(connection: Connection, report: Report) -> None:
    """Store a report's body with what of it was accepted; nothing else of it ever changes."""
    changed = update(REPORTS).where(REPORTS.c.report_id == report.report_id)
    connection.execute(changed.values(body=to_text(report.body)))


def _acceptance(row: RowMapping) -> Acceptance:
    columns: dict[str, Any] = dict(row)
    return Acceptance(**(columns | {"body": from_text(columns["body"])}))
