"""Many rows into one table: each once, however many they are, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from app.store.database import Connection, Database
from app.store.tables import MAX_INSERT_ROWS, SETTINGS, insert_rows


def rows(start: int, stop: int) -> list[tuple[str, str, int]]:
    """Rows of the table ``settings``."""
    return [(f"key-{number}", str(number), number) for number in range(start, stop)]


def stored(connection: Connection) -> tuple[int, int]:
    """The number of rows, and the sum of a column of theirs."""
    count, total = connection.execute(select(func.count(), func.sum(SETTINGS.c.changed_at)).select_from(SETTINGS)).one()
    return count, int(total or 0)


@pytest.mark.parametrize(
    "number", [0, 1, 2, 3, MAX_INSERT_ROWS - 1, MAX_INSERT_ROWS, MAX_INSERT_ROWS + 1, 4 * MAX_INSERT_ROWS + 77]
)
def test_all_rows_arrive(database: Database, number: int) -> None:
    """Any number of rows is stored, each once, and counted."""
    with database.writer.begin() as connection:
        assert insert_rows(connection, SETTINGS, rows(0, number)) == number
        assert stored(connection) == (number, sum(range(number)))


def test_rows_that_are_there_are_left_out(database: Database) -> None:
    """With ``replay`` a row whose key is taken stays as it is, and is not counted."""
    with database.writer.begin() as connection:
        insert_rows(connection, SETTINGS, rows(5, 9))
        assert insert_rows(connection, SETTINGS, rows(0, 700), replay=True) == 696
        assert stored(connection) == (700, sum(range(700)))


def test_rows_that_are_there_are_an_error(database: Database) -> None:
    """Without it they are an error, and nothing of the transaction stays."""
    with pytest.raises(IntegrityError), database.writer.begin() as connection:
        insert_rows(connection, SETTINGS, [*rows(0, 700), *rows(5, 9)])
    with database.readers.connect() as connection:
        assert stored(connection) == (0, 0)
