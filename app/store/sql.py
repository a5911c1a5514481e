"""SQL that differs between SQLite and PostgreSQL, JSON columns, and inserts of many rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect


def insert_into(dialect: Dialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can be told ``on_conflict_do_nothing`` or ``on_conflict_do_update``."""
    return sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)


def to_text(value: Any) -> str:
    """JSON text; NaN and Infinity never get this far."""
    return orjson.dumps(value).decode()


def to_text_or_none(value: Any) -> str | None:
    """JSON text, or NULL for None."""
    return None if value is None else to_text(value)


def from_text(text: str | None) -> Any:
    """The value of :func:`to_text_or_none`."""
    return None if text is None else orjson.loads(text)


def many_from_text(texts: Iterable[str | None]) -> list[Any]:
    """The values of many texts, as :func:`from_text` gives each, in one call of the parser."""
    values: list[Any] = orjson.loads(f"[{','.join('null' if text is None else text for text in texts)}]")
    return values


MAX_INSERT_ROWS = 256
"""Rows in one statement on SQLite, which bounds the parameters of a statement."""
ANY_NUMBER = 64
"""Up to so many rows are one statement, whatever their number."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]], *, replay: bool = False) -> int:
    """Insert rows, each in the order of the table's columns; the number inserted.

    SQLite's driver gives the interpreter lock up at every statement, and waits for it while the event loop is busy: so
    it gets blocks of rows, each of a size that is compiled once. PostgreSQL's driver sends them all at once.

    Args:
        replay: leave out the rows whose key is taken; else they are an IntegrityError.
    """
    dialect = connection.dialect
    if rows and dialect.name != "sqlite":
        return connection.exec_driver_sql(insert_statement(dialect, table, 1, replay=replay), rows).rowcount
    inserted = start = 0
    while start < len(rows):
        left = len(rows) - start
        size = left if left <= ANY_NUMBER else min(1 << (left.bit_length() - 1), MAX_INSERT_ROWS)
        values = tuple(chain.from_iterable(rows[start : start + size]))
        inserted += connection.exec_driver_sql(insert_statement(dialect, table, size, replay=replay), values).rowcount
        start += size
    return inserted


@lru_cache(maxsize=256)
def insert_statement(dialect: Dialect, table: Table, rows: int, *, replay: bool) -> str:
    """Give the text of an INSERT of so many rows.

    Text that is compiled once need not be looked up for every group.
    """
    statement = insert_into(dialect, table)
    if replay:
        statement = statement.on_conflict_do_nothing(index_elements=list(table.primary_key))
    head, _, rest = str(statement.compile(dialect=dialect)).partition(" VALUES ")
    values, conflict, tail = rest.partition(" ON CONFLICT ")
    return f"{head} VALUES {', '.join([values] * rows)}{conflict}{tail}"
