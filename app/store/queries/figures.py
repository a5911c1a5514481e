"""Figures over time: requests, latencies, metrics and drifts, summed in slots of five minutes.

A summary of months reads these sums. It would read every prediction and every report otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, and_, case, delete, func, or_, select

from app.store.tables import ALERTS, FIGURES, insert_into
from app.types import SECOND, Micros, Report

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


def add(connection: Connection, name: str, version: str, found: Mapping[str, Figure], *, at: Micros) -> None:
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


def read(connection: Connection, name: str, version: str, *, start: Micros, end: Micros) -> dict[str, Figure]:
    """The sums over the slots from ``start`` on and before ``end``, by name."""
    table = FIGURES.c
    wanted = (table.model_name == name, table.model_version == version, table.at >= start, table.at < end)
    sums = (func.sum(table.count), func.sum(table.total), func.min(table.low), func.max(table.high), func.max(table.at))
    rows = connection.execute(select(table.name, *sums).where(*wanted).group_by(table.name)).all()
    last = _last(connection, name, version, [(row[0], row[5]) for row in rows])
    return {row[0]: Figure(int(row[1]), float(row[2]), row[3], row[4], last[row[0]]) for row in rows}


def _last(connection: Connection, name: str, version: str, slots: Sequence[tuple[str, int]]) -> dict[str, float]:
    """The latest value of each name, from its last slot."""
    table, found = FIGURES.c, dict[str, float]()
    for start in range(0, len(slots), MAX_ROWS // 5):
        some = or_(*(and_(table.name == figure, table.at == at) for figure, at in slots[start : start + MAX_ROWS // 5]))
        mine = (table.model_name == name, table.model_version == version, some)
        found |= {row[0]: float(row[1]) for row in connection.execute(select(table.name, table.last).where(*mine))}
    return found


def count_alerts(connection: Connection, name: str, version: str, *, start: Micros, end: Micros) -> dict[str, int]:
    """The alerts of a version that fired at some time from ``start`` on and before ``end``, by rule."""
    table = ALERTS.c
    mine = (table.model_name == name, table.model_version == version, table.since < end)
    fired = or_(table.state == "firing", and_(table.state == "resolved", table.changed_at >= start))
    counts = select(table.rule, func.count()).where(*mine, fired).group_by(table.rule).order_by(table.rule)
    return {row[0]: int(row[1]) for row in connection.execute(counts)}


def purge(connection: Connection, *, before: Micros, limit: int) -> int:
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


def merge(parts: Iterable[Mapping[str, Figure]]) -> dict[str, Figure]:
    """The figures of several parts, the later ones behind."""
    found: dict[str, Figure] = {}
    for part in parts:
        for name, figure in part.items():
            found[name] = found[name].plus(figure) if name in found else figure
    return found
