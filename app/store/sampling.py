"""The rows of one version, and how an even sample of them is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, func, select

from app.store.tables import PREDICTIONS, SHADOW_PREDICTIONS
from app.types import SECOND, Micros, Role


@dataclass(frozen=True, slots=True)
class VersionRows:
    """The answers of one version, reached level by level through the index."""

    name: str
    version: str
    before: Micros | None
    role: Role = "active"

    @property
    def table(self) -> Table:
        """Give the table of the answers that were given in this role."""
        return SHADOW_PREDICTIONS if self.role == "shadow" else PREDICTIONS

    @property
    def own(self) -> list[ColumnElement[bool]]:
        """The conditions of a row of this version and role, at any time."""
        table = self.table.c
        same = [table.model_name == self.name, table.model_version == self.version]
        return same if self.role == "shadow" else [*same, table.role == self.role]

    def at(self, level: int) -> list[ColumnElement[bool]]:
        """The conditions of a row of this level."""
        table = self.table.c
        earlier = [] if self.before is None else [table.predicted_at < self.before]
        return [*self.own, table.level == level, *earlier]

    def levels(self, connection: Connection, lowest: int = 0) -> range:
        """The levels from the lowest on that rows may have: one step in the index."""
        table = self.table.c
        statement = select(func.max(table.level)).where(
            table.model_name == self.name, table.model_version == self.version
        )
        highest = connection.execute(statement).scalar()
        return range(lowest, 0 if highest is None else highest + 1)

    def sample(self, connection: Connection, rows: int, hours: float) -> tuple[int, int | None]:
        """Give the lowest level of a window's rows, and the moment from which they are taken.

        None means that they are taken whatever time they span.
        """
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
            connection.execute(select(func.max(self.table.c.predicted_at)).where(*self.at(level))).scalar()
            for level in self.levels(connection)
        ]
        return max((moment for moment in found if moment is not None), default=None)

    def count(self, connection: Connection, level: int, start: int, most: int) -> int:
        """The number of rows of a level from a moment on, counted up to ``most``."""
        part = select(self.table.c.predicted_at).where(*self.at(level), self.table.c.predicted_at >= start).limit(most)
        return connection.execute(select(func.count()).select_from(part.subquery())).scalar_one()

    def latest(self, connection: Connection, level: int, rows: int, start: int | None) -> list[tuple[Micros, str]]:
        """(time, id) of the latest rows of ``level`` or more, oldest first."""
        table = self.table.c
        found: list[tuple[Micros, str]] = []
        for each in self.levels(connection, level):
            statement = select(table.predicted_at, table.prediction_id).where(*self.at(each))
            statement = statement if start is None else statement.where(table.predicted_at >= start)
            statement = statement.order_by(table.predicted_at.desc(), table.prediction_id.desc()).limit(rows)
            found += [(Micros(moment), prediction_id) for moment, prediction_id in connection.execute(statement).all()]
        return sorted(found)[-rows:]
