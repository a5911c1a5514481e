"""A group that is a transaction by itself: predictions in one INSERT, as nearly every group is under load."""

from __future__ import annotations

from collections.abc import Sequence
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

    SQLite begins and commits such an INSERT within one call of its driver, which gives the interpreter lock up once.
    Whatever is not that simple is left to the transaction: another database, many rows, an id that is taken, a row that
    the database refuses.

    Raises:
        OperationalError: the store is away.
    """
    if connection.dialect.name != "sqlite" or not 0 < len(rows) <= ANY_NUMBER:
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
