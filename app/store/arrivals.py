"""How many rows came: in the last hour and since the newest row, and in the same stretches of time earlier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select

from app.store.sampling import VersionRows
from app.types import SECOND, Micros, Role

_HOUR = 3600 * SECOND
_EARLIER = {"an hour earlier": _HOUR, "a day earlier": 24 * _HOUR, "a week earlier": 168 * _HOUR}
_LEVELS = 24
"""Rows of a higher sampling level are one in sixteen million, and are not counted."""
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows in a stretch of time, and in the same stretch earlier, all counted on the same even sample of ids.

    Attributes:
        earlier: by how much earlier; only stretches that began when the version already had rows.
    """

    rows: int
    earlier: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When rows came.

    Attributes:
        silence_s: seconds since the newest row.
        hour: the last hour.
        silence: the time since the newest row, which has no rows.
    """

    silence_s: float
    hour: Stretch
    silence: Stretch


def read_arrivals(
    connection: Connection, name: str, version: str, now: Micros, *, role: Role = "active"
) -> Arrivals | None:
    """Count the rows of a version up to ``now``; None where it has none. Cost: some thousand steps in the index."""
    rows = VersionRows(name, version, Micros(now + 1), role)
    bounds = _bounds(connection, rows)
    if bounds is None:
        return None
    oldest, newest = bounds

    def stretch(start: Micros) -> Stretch:
        shifts = {label: by for label, by in _EARLIER.items() if now + 1 - start <= by and start - by >= oldest}
        ends = [(Micros(start - by), Micros(now + 1 - by)) for by in (0, *shifts.values())]
        came, *earlier = _counts(connection, rows, ends)
        return Stretch(came, dict(zip(shifts, earlier, strict=True)))

    return Arrivals((now - newest) / SECOND, stretch(Micros(now + 1 - _HOUR)), stretch(Micros(newest + 1)))


def _bounds(connection: Connection, rows: VersionRows) -> tuple[Micros, Micros] | None:
    moment = rows.table.c.predicted_at
    ends = [
        select(end(moment)).where(*rows.at(level)).scalar_subquery()
        for end in (func.min, func.max)
        for level in range(_LEVELS)
    ]
    found = connection.execute(select(*ends)).one()
    moments = [moment for moment in found if moment is not None]
    return (min(moments), max(moments)) if moments else None


def _counts(connection: Connection, rows: VersionRows, ends: Sequence[tuple[Micros, Micros]]) -> list[int]:
    """Count each stretch ``[start, end)`` on the rows of the lowest level at which no stretch has too many."""
    found = [_sums(connection, replace(rows, before=end), start) for start, end in ends]
    level = next(level for level in range(_LEVELS + 1) if all(sums[level] <= _MOST for sums in found))
    return [sums[level] for sums in found]


def _sums(connection: Connection, rows: VersionRows, start: Micros) -> list[int]:
    """Rows of each level or more from ``start`` on; below a level that has too many, none are added."""
    sums = [0] * (_LEVELS + 1)
    for level in reversed(range(_LEVELS)):
        more = rows.count(connection, level, start, _MOST + 1) if sums[level + 1] <= _MOST else 0
        sums[level] = sums[level + 1] + more
    return sums
