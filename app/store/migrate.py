"""Migrate the schema, and move a whole store to another database."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    RowMapping,
    Table,
    bindparam,
    func,
    inspect,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql

from app.errors import ConfigError
from app.store.database import open_database, parse_url
from app.store.tables import (
    ACCEPTANCES,
    ALERTS,
    API_KEYS,
    AUDIT,
    FIGURES,
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
SHORT = (MODELS, REPORTS, FIGURES, ALERTS, SILENCES, ACCEPTANCES, OUTBOX, API_KEYS, AUDIT, SETTINGS)
"""The other tables are read in one transaction, so that every alert finds its report."""
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x706C756D
"""The number of PostgreSQL's advisory lock around a migration; SQLite's file lock already lets one process in."""


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Migrate to the newest revision; the revision before and after.

    Raises:
        ConfigError: the database was made by a newer Plumbline.
    """
    revisions = sorted(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        before = _revision(connection)
        if before is not None and before not in revisions:
            raise ConfigError(
                f"store.url: the database has revision {before}, made by a newer plumbline: upgrade this one"
            )
        if before != revisions[-1]:
            _migrate(connection)
    return before, revisions[-1]


def create_apart(url: str) -> None:
    """Create a new SQLite file in a child process.

    Alembic's memory is given back when that process ends.

    Whatever is wrong with the place, the process that opens it will see for itself and say. Only while no other thread
    runs; an old store, another database, and one on another system than Linux, is migrated where it is opened.
    """
    parsed = parse_url(url)
    if sys.platform == "linux" and parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        process = multiprocessing.get_context("fork").Process(target=_create, args=(url,))
        process.start()
        process.join()


def _create(url: str) -> None:
    with suppress(Exception):
        database = open_database(url)
        upgrade(database.writer)
        database.close()


def _revision(connection: Connection) -> str | None:
    """Give the revision of the database's schema, or None where nobody has migrated it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _migrate(connection: Connection) -> None:
    from alembic import command  # 8 MiB that a service on a database of today need not hold
    from alembic.config import Config as AlembicConfig

    settings = AlembicConfig()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


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
        found = _revision(reading)
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
