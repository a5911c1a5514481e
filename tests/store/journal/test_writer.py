"""A group that is a transaction by itself: whole or not at all, and left to the transaction where it is not simple."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.store.database import Connection, Database, sqlite_module
from app.store.journal.writer import Writer, insert_autocommit
from app.store.queries.predictions import Taken, find, insert
from app.store.tables import ANY_NUMBER
from app.types import Prediction
from tests.support.rows import prediction

POSTGRESQL = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
SQLITE = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)


def rows(number: int) -> list[Prediction]:
    """So many rows, each with an id of its own."""
    return [prediction(f"p{index:03}") for index in range(number)]


def stored(database: Database, wanted: Sequence[Prediction]) -> list[Prediction]:
    """Those of the rows that another connection finds, in their order."""
    with database.readers.connect() as connection:
        found = find(connection, [row.prediction_id for row in wanted])
    return [found[row.prediction_id].prediction for row in wanted if row.prediction_id in found]


def refuses(connection: Connection, wanted: Sequence[Prediction]) -> bool:
    """Whether the rows were left to the transaction, with the connection as it was."""
    return not insert_autocommit(connection, wanted) and not connection.in_transaction()


@SQLITE
@pytest.mark.parametrize("number", [1, 13, ANY_NUMBER])
def test_the_rows_are_committed_by_one_statement(database: Database, number: int) -> None:
    """Any number of rows is one statement of the driver, after which another connection sees them."""
    statements: list[str] = []
    with database.writer.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_trace_callback(statements.append)
        assert insert_autocommit(connection, rows(number))
        driver.set_trace_callback(None)

        assert [statement.split()[0] for statement in statements] == ["INSERT"]
        assert len(stored(database, rows(number))) == number


@POSTGRESQL
def test_any_number_is_copied_and_committed(database: Database) -> None:
    """Rows by the thousand are one COPY, after which another connection sees them as they were."""
    odd = prediction("odd", features=["\\N", 'a\t"b"\n', None, 0.1], context={"a": "\r\\."})
    with database.writer.connect() as connection:
        assert insert_autocommit(connection, [*rows(3000), odd])
        assert stored(database, [*rows(3000), odd]) == [*rows(3000), odd]
        assert refuses(connection, [])


@POSTGRESQL
def test_a_lost_connection_is_left_to_the_transaction(database: Database) -> None:
    """A connection that the database has ended is no outage yet: the writer finds another, and stores the rows once."""
    writer = Writer(database.writer)
    assert writer.commit([(insert, rows(1))]) == [[None]]
    with database.readers.connect() as other:
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
        other.exec_driver_sql(f"{others} pg_backend_pid()")
    assert writer.commit([(insert, rows(2))]) == [[None, None]]
    writer.drop()
    assert len(stored(database, rows(2))) == 2


@POSTGRESQL
def test_a_store_that_takes_too_long_is_an_outage(database: Database) -> None:
    """Rows that wait for another's lock for longer than a statement may take are not tried again at once."""
    with database.writer.connect() as connection, database.readers.connect() as other:
        connection.exec_driver_sql("SET statement_timeout = '50ms'")
        connection.commit()
        other.exec_driver_sql("SET TRANSACTION READ WRITE")
        other.exec_driver_sql("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(OperationalError):
            insert_autocommit(connection, rows(1))
        other.rollback()
        assert insert_autocommit(connection, rows(1))


@SQLITE
@pytest.mark.parametrize("number", [0, ANY_NUMBER + 1])
def test_another_number_is_left_to_the_transaction(database: Database, number: int) -> None:
    """No rows, and more than one statement takes, are stored by the transaction."""
    with database.writer.connect() as connection:
        assert refuses(connection, rows(number))
    assert stored(database, rows(number)) == []


@pytest.mark.parametrize("bad", [prediction("p000", request_id="other"), prediction("bad", latency_us=None)])
def test_a_row_that_is_refused_takes_all_with_it(database: Database, bad: Prediction) -> None:
    """With an id that is taken, or a row that the database refuses, nothing is stored."""
    group = [prediction("first"), bad, prediction("last")]
    with database.writer.connect() as connection:
        assert insert_autocommit(connection, rows(1))
        assert refuses(connection, group)
    assert stored(database, [group[0], group[2]]) == []


def test_the_writer_says_whose_id_is_taken(database: Database) -> None:
    """What one statement cannot store goes through the transaction, which knows a row of its own from another's."""
    writer = Writer(database.writer)
    first, second = prediction("first"), prediction("second")
    assert writer.commit([(insert, [first])]) == [[None]]
    assert writer.commit([(insert, [first]), (insert, [second])]) == [[None], [None]]  # as after a lost connection
    with pytest.raises(Taken, match="first"):
        writer.commit([(insert, [prediction("third")]), (insert, [prediction("first", request_id="other")])])
    writer.drop()

    assert stored(database, [first, second, prediction("third")]) == [first, second]


@SQLITE
def test_a_store_out_of_reach_is_an_outage(database: Database, store_url: str) -> None:
    """While another process holds the file, the rows are not refused but the store is away; then it takes them."""
    path = Path(store_url.removeprefix("sqlite:///"))
    with database.writer.connect() as connection, closing(sqlite_module().connect(path)) as other:
        connection.exec_driver_sql("PRAGMA busy_timeout=1")
        connection.rollback()
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError):
            insert_autocommit(connection, rows(1))
        other.rollback()

        assert insert_autocommit(connection, rows(1))
    assert len(stored(database, rows(1))) == 1
