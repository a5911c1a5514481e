"""Copy a store from SQLite to PostgreSQL, while a service may be writing to the file.

Repeating it is harmless and brings what has come since. Leases are not copied: they speak of running processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, Engine, RowMapping, Table, bindparam, func, select, text, tuple_, update
from sqlalchemy.dialects import postgresql

from app.errors import ConfigError
from app.store.tables import (
    ALERTS,
    MODELS,
    OUTBOX,
    OUTCOMES,
    PREDICTIONS,
    REPORTS,
    SETTINGS,
    SHADOW_PREDICTIONS,
    SILENCES,
)

CHUNK = 5_000
LONG: dict[Table, Column[int]] = {
    PREDICTIONS: PREDICTIONS.c.predicted_at,
    OUTCOMES: OUTCOMES.c.recorded_at,
    SHADOW_PREDICTIONS: SHADOW_PREDICTIONS.c.predicted_at,
}
"""Tables that only grow, with the time by which they do: read in short transactions, from where a copy ended."""
SHORT = (MODELS, REPORTS, ALERTS, SILENCES, OUTBOX, SETTINGS)
"""The other tables are read in one transaction, so that every alert finds its report."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows of one table on both sides, counted after the copy."""

    table: str
    source: int
    target: int

    @property
    def complete(self) -> bool:
        """Tell whether nothing is missing.

        Retention may have deleted rows from the source since.
        """
        return self.target >= self.source


def check_source(source: Engine, revision: str) -> None:
    """Refuse a source whose schema is not the target's.

    Raises:
        ConfigError: it is older or newer, or no store.
    """
    with source.connect() as reading:
        found = MigrationContext.configure(reading).get_current_revision()
    if found != revision:
        raise ConfigError(f"store.url: the schema is {found or 'missing'}, not {revision}: run plumbline migrate first")


def count(engine: Engine) -> dict[Table, int]:
    """The rows of each table that is copied."""
    with engine.connect() as connection:
        _without_timeout(connection)
        return {table: _rows(connection, table) for table in (*LONG, *SHORT)}


def copy(source: Engine, target: Engine, advance: Callable[[int], None]) -> list[Copied]:
    """Copy all rows that the target does not have.

    ``advance`` is called with the number of rows done since its last call.
    """
    with source.connect() as reading:
        for table, time in LONG.items():
            start = _resume_at(reading, target, table, time)
            reading.rollback()
            advance(_rows(reading, table, time < start) if start else 0)
            for rows in _chunks(reading, table, (time, *_key(table)), start):
                reading.rollback()
                _insert(target, table, rows)
                advance(len(rows))
        reading.rollback()
        for table in SHORT:
            for rows in _chunks(reading, table, _key(table), None):
                _insert(target, table, rows)
                advance(len(rows))
    there, here = count(target), count(source)
    return [Copied(table.name, here[table], there[table]) for table in here]


def _resume_at(reading: Connection, target: Engine, table: Table, time: Column[int]) -> int | None:
    """Give the time of the last row copied if none is missing before it.

    None means: start at the beginning.
    """
    with target.connect() as connection:
        _without_timeout(connection)
        last: int | None = connection.execute(select(func.max(time))).scalar_one()
        if last is None or _rows(connection, table, time < last) != _rows(reading, table, time < last):
            return None
    return last


def _chunks(
    reading: Connection, table: Table, key: tuple[Column[Any], ...], start: int | None
) -> Iterator[Sequence[RowMapping]]:
    """Read the rows in the order of a key, in bounded memory.

    The key begins with a time if there is a ``start``.
    """
    page = select(table).order_by(*key).limit(CHUNK)
    rows = reading.execute(page if start is None else page.where(key[0] >= start)).mappings().all()
    while rows:
        yield rows
        last = tuple(rows[-1][column.name] for column in key)
        rows = reading.execute(page.where(tuple_(*key) > last)).mappings().all()


def _insert(target: Engine, table: Table, rows: Sequence[RowMapping]) -> None:
    """Add the rows that are not there; of a row that changes, the later state stands."""
    values = [dict(row) for row in rows]
    with target.begin() as connection:
        if "changed_at" in table.c:  # first, since what was resolved makes room for what fires now
            new: dict[Column[Any], Any] = {column: bindparam(f"new_{column.name}") for column in table.c}
            older = [column == new[column] for column in _key(table)]
            changed = update(table).where(*older, table.c.changed_at < new[table.c.changed_at])
            connection.execute(
                changed.values({column: value for column, value in new.items() if not column.primary_key}),
                [{f"new_{name}": value for name, value in row.items()} for row in values],
            )
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), values)


def _key(table: Table) -> tuple[Column[Any], ...]:
    return tuple(table.primary_key.columns)


def _rows(connection: Connection, table: Table, *conditions: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())


def _without_timeout(connection: Connection) -> None:
    """Counting a large table takes its time, and nobody waits for it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
