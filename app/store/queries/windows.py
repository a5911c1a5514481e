"""The rows that a check looks at: windows of predictions, and arrivals an hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, or_, select

from app.store.queries.outcomes import revisions_of
from app.store.queries.predictions import VersionRows
from app.store.tables import PREDICTIONS, many_from_text
from app.types import SECOND, Label, Micros, Role, Row, Scalar

_HOUR = 3600 * SECOND
_EARLIER = {"an hour earlier": _HOUR, "a day earlier": 24 * _HOUR, "a week earlier": 168 * _HOUR}
_LEVELS = 24
"""Rows of a higher sampling level are one in sixteen million, and are not counted."""
_MAX_COUNTED = 1000


@dataclass(frozen=True, slots=True)
class Stretch:
    """Hold the row counts of a stretch of time and of the same stretch earlier.

    All counts are of the same even sample of ids.

    Attributes:
        earlier: by how much earlier; only stretches that began when the version already had rows.
    """

    rows: int
    earlier: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Hold the row counts that tell whether traffic has stopped or dropped.

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
    """Count the rows of a version up to ``now``. None means that it has none.

    This costs some thousand steps in the index.
    """
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
    """Count each stretch ``[start, end)`` of time.

    The sampling level is the lowest at which no stretch has too many rows.
    """
    found = [_sums(connection, replace(rows, before=end), start) for start, end in ends]
    level = next(level for level in range(_LEVELS + 1) if all(sums[level] <= _MAX_COUNTED for sums in found))
    return [sums[level] for sums in found]


def _sums(connection: Connection, rows: VersionRows, start: Micros) -> list[int]:
    """Count the rows of each level or more from ``start`` on.

    Below a level with too many rows nothing more is counted.
    """
    sums = [0] * (_LEVELS + 1)
    for level in reversed(range(_LEVELS)):
        more = rows.count(connection, level, start, _MAX_COUNTED + 1) if sums[level + 1] <= _MAX_COUNTED else 0
        sums[level] = sums[level + 1] + more
    return sums


_MIN_LEVEL_ROWS, _TOGETHER = 20, 50
"""Rows in one statement: it ends soon, since the log of SQLite grows while it lasts."""


@dataclass(frozen=True, slots=True)
class Window:
    """Stored predictions, and what became of them, ordered by (predicted_at, id).

    Attributes:
        probabilities: in the order of the schema's classes; None where the model gave none.
        sampled_from: the estimated number of rows from which the window was drawn.
        hours: the time that the window was asked to span.
        contexts: of each row, None where it has none; empty where they were not asked for.
        outcomes, values, recorded_at: aligned with ``ids``; None where no outcome came (0, False and "" are outcomes),
            and in all rows where they were not asked for.
    """

    ids: list[str]
    features: list[Row]
    predictions: list[Label]
    probabilities: list[tuple[float, ...] | None]
    predicted_at: list[Micros]
    sampled_from: int
    hours: float
    outcomes: list[Label | None]
    values: list[float | None]
    recorded_at: list[Micros | None]
    contexts: list[Mapping[str, Scalar] | None] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.ids)


def read_window(
    connection: Connection,
    name: str,
    version: str,
    *,
    rows: int,
    hours: float,
    before: Micros | None = None,
    role: Role = "active",
    truth: bool = True,
    contexts: bool = False,
) -> Window:
    """Read the latest ``rows`` predictions of a version, or an even sample.

    It is a sample where the latest rows span less than ``hours``.

    A row's level is the number of trailing zero bits of a hash of its id, so the rows of level k or more are an even
    sample of one in 2^k, the same on every replica. Taken is the smallest k at which at most ``rows`` rows lie within
    ``hours`` of the window's end. Cost: O(rows) at any traffic and history, by the index on (version, level, time).

    Args:
        hours: 0 takes the latest rows, whatever they span.
        before: look only at predictions made before this moment.
        role: a shadow's answers lie beside the predictions that it repeated.
        truth, contexts: whether the outcomes, and the contexts of the requests, are read as well.
    """
    within = VersionRows(name, version, before, role)
    level, start = within.sample(connection, rows, hours)
    levels = within.levels(connection, level)
    together = {one: min(_TOGETHER, max(_MIN_LEVEL_ROWS, rows >> one - level + 1)) for one in levels}
    each = [_rows(connection, within, one, start or 0, size, contexts=contexts) for one, size in together.items()]
    latest = list(islice(merge(*each, key=itemgetter(0, 1), reverse=True), rows))
    return _window(connection, latest[::-1], level, hours, truth=truth)


def newer_rows(
    connection: Connection, name: str, version: str, *, after: Micros, most: int, role: Role = "active"
) -> int:
    """Count the predictions that a version made after a moment, up to ``most``."""
    within = VersionRows(name, version, None, role)
    return min(most, sum(within.count(connection, level, after + 1, most) for level in within.levels(connection)))


def _rows(
    connection: Connection, within: VersionRows, level: int, start: int, together: int, *, contexts: bool
) -> Iterator[tuple[Any, ...]]:
    """Select a level's rows back to a moment, the latest first.

    Columns: time, id, features, prediction, probabilities, and the context where it is asked for.
    """
    table, rows = within.table.c, PREDICTIONS.c
    moment, name = table.predicted_at, table.prediction_id
    at: BindParameter[int] = bindparam("at", 2**62)
    after: BindParameter[str] = bindparam("after", "")
    more = [rows.context] if contexts else []
    statement = select(moment, name, rows.features, table.prediction, table.probabilities, *more)
    statement = statement.where(*within.at(level))
    if within.role == "shadow":
        statement = statement.join(PREDICTIONS, rows.prediction_id == name)
    statement = statement.where(moment >= start, moment <= at, or_(moment < at, name < after))
    statement = statement.order_by(moment.desc(), name.desc()).limit(together)
    behind: dict[str, Any] = {}
    while found := connection.execute(statement, behind).all():
        moments, names, *texts = zip(*found, strict=True)
        yield from zip(moments, names, *map(many_from_text, texts), strict=True)
        behind = {"at": moments[-1], "after": names[-1]}


def _window(connection: Connection, found: list[tuple[Any, ...]], level: int, hours: float, *, truth: bool) -> Window:
    columns = list(map(list, zip(*found, strict=True))) if found else [[]] * 5
    moments, ids, features, predictions, probabilities, *contexts = columns
    revisions = revisions_of(connection, ids, most=1) if truth else {}
    labels = [revisions[each][-1] if each in revisions else None for each in ids]
    return Window(
        ids=ids,
        features=features,
        predictions=predictions,
        probabilities=[None if each is None else tuple(each) for each in probabilities],
        predicted_at=moments,
        sampled_from=len(ids) << level,
        hours=hours,
        outcomes=[None if label is None else label.outcome for label in labels],
        values=[None if label is None else label.value for label in labels],
        recorded_at=[None if label is None else label.recorded_at for label in labels],
        contexts=contexts[0] if contexts else [],
    )
