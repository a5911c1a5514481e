"""The writer thread's transactions: a group of entries, or one autocommitted INSERT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError

from app.store.queries.predictions import in_order, insert, insert_new
from app.store.tables import ANY_NUMBER, PREDICTIONS, insert_statement
from app.types import Prediction


def insert_autocommit(connection: Connection, rows: Sequence[Prediction], *, replay: bool = False) -> bool:
    """Store the rows and commit, or give False: they need a transaction of several statements.

    Where it is False, nothing is stored; with ``replay``, the rows whose ids are free may be.

    SQLite begins and commits such an INSERT within one call of its driver, which gives the interpreter lock up once;
    PostgreSQL copies rows at a fraction of what it takes to insert each, and asks for no answer in between.
    Whatever is not that simple is left to the transaction: many rows, an id that is taken, a row that the database
    refuses, a connection that is lost, of which the transaction finds out what it has stored.

    Raises:
        OperationalError: the store is away.
    """
    if not rows:
        return False
    if connection.dialect.name == "sqlite":
        return _insert(connection, rows, replay=replay)
    return _copy(connection, rows)


def _insert(connection: Connection, rows: Sequence[Prediction], *, replay: bool) -> bool:
    if len(rows) > ANY_NUMBER:
        return False
    driver: Any = connection.connection.driver_connection
    statement = insert_statement(connection.dialect, PREDICTIONS, len(rows), replay=replay)
    try:
        inserted: int = driver.execute(statement, tuple(chain.from_iterable(in_order(rows)))).rowcount
    except driver.OperationalError as error:
        raise OperationalError(statement, None, error) from error
    except driver.Error:
        return False
    return inserted == len(rows)


def _copy(connection: Connection, rows: Sequence[Prediction]) -> bool:
    driver: Any = connection.connection.driver_connection
    errors: Any = connection.dialect.dbapi
    statement = _copy_statement()
    try:
        driver.autocommit = True
        try:
            with driver.cursor() as cursor, cursor.copy(statement) as copy:
                for row in in_order(rows):
                    copy.write_row(row)
        finally:
            if not driver.closed:
                driver.autocommit = False
    except errors.OperationalError as error:
        if driver.closed:
            return False
        raise OperationalError(statement, None, error) from error
    except errors.Error:
        return False
    return True


@lru_cache(maxsize=1)
def _copy_statement() -> str:
    return f"COPY {PREDICTIONS.name} ({', '.join(PREDICTIONS.c.keys())}) FROM STDIN"


Item = TypeVar("Item")
Result = TypeVar("Result")
Write = Callable[[Connection, Sequence[Item]], list[Result]]
"""Writes the items of several callers at once; one result an item, in order."""
Part: TypeAlias = tuple[Write[Any, Any], Sequence[Any]]
"""One caller's items, and what writes them."""
AWAY = (OperationalError, InterfaceError, InternalError)
"""What the driver raises while the database is down, too slow, going away, or a standby that takes no writes."""
TRIES = 3
"""Tries of one group when another replica got in between or the connection was lost."""


class Writer:
    """Keeps the connection between groups."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def commit(self, parts: Sequence[Part]) -> list[list[Any]]:
        """Write all parts or none; each caller's results.

        Raises:
            Exception: what the database or a caller's items raised in the last try.
        """
        if self._commit_alone(parts):
            return [[None] * len(rows) for _, rows in parts]
        for attempt in range(1, TRIES + 1):
            try:
                return self._transaction(parts)
            except DBAPIError as error:
                if error.connection_invalidated:
                    self.drop()
                if attempt == TRIES or not (error.connection_invalidated or isinstance(error, IntegrityError)):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def drop(self) -> None:
        """Give the connection up; the next group opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _commit_alone(self, parts: Sequence[Part]) -> bool:
        writes = {write for write, _ in parts}
        if not writes <= {insert, insert_new}:
            return False
        rows = [row for _, rows in parts for row in rows]
        return insert_autocommit(self._connected(), rows, replay=insert not in writes)

    def _transaction(self, parts: Sequence[Part]) -> list[list[Any]]:
        connection = self._connected()
        with connection.begin():
            return write_together(connection, parts)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection


def attempt(connection: Connection, act: Callable[[], object]) -> Exception | None:
    """Run a function in a savepoint, and give its failure or None.

    Where it fails, all that the transaction wrote before it is kept.

    Raises:
        DBAPIError: what the writer tries again, or the store is away.
    """
    try:
        with connection.begin_nested():
            act()
    except (IntegrityError, *AWAY):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to tell of
        return error
    return None


def write_together(connection: Connection, parts: Sequence[Part]) -> list[list[Any]]:
    """Call each writing function once, for all its callers; each caller's results."""
    by_write: dict[Write[Any, Any], list[Any]] = {}
    for write, items in parts:
        by_write.setdefault(write, []).extend(items)
    written = {write: iter(write(connection, items)) for write, items in by_write.items()}
    return [list(islice(written[write], len(items))) for write, items in parts]
