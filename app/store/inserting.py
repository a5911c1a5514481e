"""Many rows into one table, in as few statements as each database likes best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect

MOST_ROWS = 256
"""Rows in one statement on SQLite, which bounds the parameters of a statement."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]], *, replay: bool = False) -> int:
    """Insert rows, each in the order of the table's columns; the number inserted.

    SQLite's driver gives the interpreter lock up at every statement, and waits for it while the event loop is busy: so
    it gets blocks of rows, of a few sizes, that each is compiled once. PostgreSQL's driver sends them all at once.

    Args:
        replay: leave out the rows whose key is taken; else they are an IntegrityError.
    """
    dialect = connection.dialect
    if rows and dialect.name != "sqlite":
        return connection.exec_driver_sql(_statement(dialect, table, 1, replay), rows).rowcount
    inserted = start = 0
    while start < len(rows):
        size = min(1 << ((len(rows) - start).bit_length() - 1), MOST_ROWS)
        values = tuple(chain.from_iterable(rows[start : start + size]))
        inserted += connection.exec_driver_sql(_statement(dialect, table, size, replay), values).rowcount
        start += size
    return inserted


@lru_cache(maxsize=64)
def _statement(dialect: Dialect, table: Table, rows: int, replay: bool) -> str:
    """The INSERT of so many rows as text: what is compiled once need not be looked up for every group."""
    statement = (sqlite if dialect.name == "sqlite" else postgresql).insert(table)
    if replay:
        statement = statement.on_conflict_do_nothing(index_elements=list(table.primary_key))
    head, _, rest = str(statement.compile(dialect=dialect)).partition(" VALUES ")
    values, conflict, tail = rest.partition(" ON CONFLICT ")
    return f"{head} VALUES {', '.join([values] * rows)}{conflict}{tail}"
