"""What the replicas tell each other of their last minutes."""

from __future__ import annotations

from dataclasses import replace

from app.store.encoding import to_text
from app.store.engine import Database
from app.store.leases import database_now
from app.store.pulses import KEPT_S, Pulse, Step, beat, read_pulses
from app.store.tables import PULSES
from app.types import SECOND, Micros

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
