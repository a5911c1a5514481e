"""A window: the rows of one model version that a check looks at."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from app.store.outcomes import revisions_of
from app.store.predictions import find
from app.store.tables import PREDICTIONS
from app.types import SECOND, Label, Micros, Row


@dataclass(frozen=True, slots=True)
class Window:
    """Stored predictions, and what became of them, ordered by (predicted_at, id).

    Attributes:
        probabilities: in the order of the schema's classes; None where the model gave none.
        sampled_from: the estimated number of rows from which the window was drawn.
        hours: the time that the window was asked to span.
        outcomes, values, recorded_at: aligned with ``ids``; None where no outcome came (0, False and "" are outcomes).
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

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.ids)


def read_window(
    connection: Connection, name: str, version: str, *, rows: int, hours: float, before: Micros | None = None
) -> Window:
    """The latest ``rows`` predictions of a version; where these span less than ``hours``, an even sample of them.

    A row's level is the number of trailing zero bits of a hash of its id, so the rows of level k or more are an even
    sample of one in 2^k, the same on every replica. Taken is the smallest k at which at most ``rows`` rows lie within
    ``hours`` of the window's end. Cost: O(rows) at any traffic and history, by the index on (version, level, time).

    Args:
        hours: 0 takes the latest rows, whatever they span.
        before: look only at predictions made before this moment.
    """
    within = VersionRows(name, version, before)
    level, start = within.sample(connection, rows, hours)
    keys = within.latest(connection, level, rows, start)
    return _load(connection, [prediction_id for _, prediction_id in keys], len(keys) << level, hours)


def newer_rows(connection: Connection, name: str, version: str, *, after: Micros, most: int) -> int:
    """How many predictions a version made after a moment, counted up to ``most``."""
    within = VersionRows(name, version, None)
    return min(most, sum(within.count(connection, level, after + 1, most) for level in within.levels(connection)))


@dataclass(frozen=True, slots=True)
class VersionRows:
    """The predictions of one version, reached level by level through the index."""

    name: str
    version: str
    before: Micros | None

    def at(self, level: int) -> list[ColumnElement[bool]]:
        """The conditions of a row of this level."""
        table = PREDICTIONS.c
        same = [
            table.model_name == self.name,
            table.model_version == self.version,
            table.level == level,
            table.role == "active",
        ]
        return [*same, *([] if self.before is None else [table.predicted_at < self.before])]

    def levels(self, connection: Connection, lowest: int = 0) -> range:
        """The levels from the lowest on that rows may have: one step in the index."""
        table = PREDICTIONS.c
        statement = select(func.max(table.level)).where(
            table.model_name == self.name, table.model_version == self.version
        )
        highest = connection.execute(statement).scalar()
        return range(lowest, 0 if highest is None else highest + 1)

    def sample(self, connection: Connection, rows: int, hours: float) -> tuple[int, int | None]:
        """The lowest level of a window's rows, and the moment from which they are taken; None: whatever they span."""
        end = self.newest(connection) if hours else None
        if end is None:
            return 0, None
        start, levels = end - round(hours * 3600 * SECOND), self.levels(connection)
        counts = [self.count(connection, level, start, rows + 1) for level in levels]
        level = next((level for level in levels if sum(counts[level:]) <= rows), levels[-1])
        return level, start if level else None

    def newest(self, connection: Connection) -> Micros | None:
        """The time of the newest row."""
        found = [
            connection.execute(select(func.max(PREDICTIONS.c.predicted_at)).where(*self.at(level))).scalar()
            for level in self.levels(connection)
        ]
        return max((moment for moment in found if moment is not None), default=None)

    def count(self, connection: Connection, level: int, start: int, most: int) -> int:
        """The number of rows of a level from a moment on, counted up to ``most``."""
        part = (
            select(PREDICTIONS.c.predicted_at).where(*self.at(level), PREDICTIONS.c.predicted_at >= start).limit(most)
        )
        return connection.execute(select(func.count()).select_from(part.subquery())).scalar_one()

    def latest(self, connection: Connection, level: int, rows: int, start: int | None) -> list[tuple[Micros, str]]:
        """(time, id) of the latest rows of ``level`` or more, oldest first."""
        table = PREDICTIONS.c
        found: list[tuple[Micros, str]] = []
        for each in self.levels(connection, level):
            statement = select(table.predicted_at, table.prediction_id).where(*self.at(each))
            statement = statement if start is None else statement.where(table.predicted_at >= start)
            statement = statement.order_by(table.predicted_at.desc(), table.prediction_id.desc()).limit(rows)
            found += [(Micros(moment), prediction_id) for moment, prediction_id in connection.execute(statement)]
        return sorted(found)[-rows:]


def _load(connection: Connection, ids: list[str], sampled_from: int, hours: float) -> Window:
    stored = find(connection, ids)
    truth = {prediction_id: revisions[-1] for prediction_id, revisions in revisions_of(connection, ids).items()}
    there = [stored[prediction_id].prediction for prediction_id in ids if prediction_id in stored]
    labels = [truth.get(row.prediction_id) for row in there]
    return Window(
        ids=[row.prediction_id for row in there],
        features=[row.features for row in there],
        predictions=[row.answer.prediction for row in there],
        probabilities=[row.answer.probabilities for row in there],
        predicted_at=[row.predicted_at for row in there],
        sampled_from=sampled_from,
        hours=hours,
        outcomes=[None if label is None else label.outcome for label in labels],
        values=[None if label is None else label.value for label in labels],
        recorded_at=[None if label is None else label.recorded_at for label in labels],
    )
