"""Leases, and the usage that replicas share, on both databases."""

from __future__ import annotations

import time
from dataclasses import replace

from app.store.database import Database
from app.store.queries.replicas import KEPT_S, Pulse, Step, acquire, beat, database_now, read_pulses, release
from app.store.tables import LEASES, PULSES, to_text
from app.types import SECOND, Micros

MILLISECOND = 1000


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
    """It counts microseconds since 1970, in UTC; SQLite knows the time to a millisecond."""
    with database.readers.connect() as connection:
        before = time.time_ns() // 1000
        found = database_now(connection)
        after = time.time_ns() // 1000

    assert before - MILLISECOND <= found <= after + MILLISECOND


def test_leases_are_told_apart_by_name(database: Database) -> None:
    """Two leases have two holders."""
    with database.writer.begin() as connection:
        assert acquire(connection, "one", "a", seconds=9) == 1
        assert acquire(connection, "two", "b", seconds=9) == 1


CLOCK = Micros(1000 * SECOND)
STEP = Step(Micros(990 * SECOND), 5, 1, 2, False, (4, 1, *[0] * 14))
MINE = Pulse("a", "m", "1", (STEP,))


def test_pulses_are_read_by_version(database: Database) -> None:
    """The latest pulse of each replica is read, of the version asked for, its times by the clock of the database."""
    with database.writer.begin() as connection:
        other = replace(MINE, replica="b", steps=(STEP._replace(away=True),))
        beat(connection, [replace(MINE, steps=()), other, replace(MINE, model_version="2")], clock=CLOCK)
        beat(connection, [MINE], clock=CLOCK)
        now = database_now(connection)
        found = read_pulses(connection, "m", "1")

    assert [(pulse.replica, pulse.model_version) for pulse in found] == [("a", "1"), ("b", "1")]
    [first], [second] = (pulse.steps for pulse in found)
    assert first._replace(began=STEP.began) == STEP
    assert second.away
    assert abs(now - 10 * SECOND - first.began) < 5 * SECOND


def test_steps_of_another_release_are_left_out(database: Database) -> None:
    """While a release is rolled out that counts otherwise, what it stored keeps nobody from judging the rest."""
    with database.writer.begin() as connection:
        fewer = STEP._replace(latencies=STEP.latencies[:-1])
        beat(connection, [replace(MINE, steps=(fewer, STEP))], clock=CLOCK)
        beat(connection, [replace(MINE, replica="b")], clock=CLOCK)
        longer = to_text([[*STEP, [1, 2]]])
        connection.execute(PULSES.update().where(PULSES.c.replica == "b").values(body=longer))
        found = read_pulses(connection, "m", "1")

    assert [[step.latencies for step in pulse.steps] for pulse in found] == [[STEP.latencies], []]


def test_who_stopped_long_ago_is_forgotten(database: Database) -> None:
    """A pulse older than an hour is deleted by the next one of anybody; a younger one stays."""
    with database.writer.begin() as connection:
        beat(connection, [MINE, replace(MINE, replica="b")], clock=CLOCK)
        late = PULSES.c.at - (KEPT_S + 60) * SECOND
        connection.execute(PULSES.update().where(PULSES.c.replica == "a").values(at=late))
        beat(connection, [], clock=CLOCK)

        assert [pulse.replica for pulse in read_pulses(connection, "m", "1")] == ["b"]
