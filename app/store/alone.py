"""A group that is a transaction by itself: predictions in one statement, as nearly every group is under load."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from app.store.inserting import ANY_NUMBER, insert_statement
from app.store.predictions import in_order
from app.store.tables import PREDICTIONS
from app.types import Prediction


def insert_alone(connection: Connection, rows: Sequence[Prediction]) -> bool:
    """Store the rows, and commit; False where it takes a transaction of several statements, and nothing is stored yet.

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
        return _insert(connection, rows)
    return _copy(connection, rows)


def _insert(connection: Connection, rows: Sequence[Prediction]) -> bool:
    if len(rows) > ANY_NUMBER:
        return False
    driver: Any = connection.connection.driver_connection
    statement = insert_statement(connection.dialect, PREDICTIONS, len(rows), replay=False)
    try:
        driver.execute(statement, tuple(chain.from_iterable(in_order(rows))))
    except driver.OperationalError as error:
        raise OperationalError(statement, None, error) from error
    except driver.Error:
        return False
    return True


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
