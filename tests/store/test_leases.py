"""Leases, on both databases."""

from __future__ import annotations

import time

import pytest

from app.store.engine import Database
from app.store.leases import acquire, database_now, release
from app.store.tables import LEASES


def take(database: Database, holder: str, seconds: float = 60) -> int | None:
    """Try to take the lease."""
    with database.writer.begin() as connection:
        return acquire(connection, "monitor", holder, seconds=seconds)


def test_one_holder_at_a_time(database: Database) -> None:
    """The holder renews under the same token; another gets nothing until the lease is given up."""
    assert take(database, "one") == 1
    assert take(database, "two") is None
    assert take(database, "one") == 1
    with database.writer.begin() as connection:
        release(connection, "monitor", "two")
    assert take(database, "two") is None
    with database.writer.begin() as connection:
        release(connection, "monitor", "one")
    assert take(database, "two") == 2
    assert take(database, "one") is None


def test_a_lease_ends_by_the_databases_clock(database: Database) -> None:
    """A lease that ran out goes to whoever asks, under a larger token that shows the old holder to be late."""
    token = take(database, "gone", seconds=3600)
    with database.writer.begin() as connection:
        # An hour passes.
        connection.execute(LEASES.update().values(until=database_now(connection) - 1))

    assert (token, take(database, "next")) == (1, 2)
    assert take(database, "gone") is None


def test_the_databases_clock_is_now(database: Database) -> None:
    """It counts microseconds since 1970, in UTC."""
    with database.readers.connect() as connection:
        assert database_now(connection) == pytest.approx(time.time() * 1e6, abs=5e6)


def test_leases_are_told_apart_by_name(database: Database) -> None:
    """Two leases have two holders."""
    with database.writer.begin() as connection:
        assert acquire(connection, "one", "a", seconds=9) == 1
        assert acquire(connection, "two", "b", seconds=9) == 1
