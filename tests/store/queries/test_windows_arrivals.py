"""Arrivals: compared with a count of every row, over random histories."""

from __future__ import annotations

import random

from app.store.database import Database
from app.store.queries.predictions import insert
from app.store.queries.windows import Arrivals, read_arrivals
from app.types import Micros
from tests.support.rows import prediction

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def read(database: Database, moments: list[int], now: int) -> Arrivals | None:
    """What is read of a version with rows at these moments, and of another one beside it."""
    rows = [prediction(f"row-{number}", moment) for number, moment in enumerate(moments)]
    others = [prediction("v2", now - 1, model_version="2"), prediction("shadow", now - 1, role="shadow")]
    with database.writer.begin() as connection:
        insert(connection, [*rows, *others])
    with database.readers.connect() as connection:
        return read_arrivals(connection, "m", "1", Micros(now))


def test_stretches_are_counted(database: Database) -> None:
    """The last hour and the silence, and the same stretches an hour, a day and a week earlier; rows to come are not."""
    rng, now = random.Random(1), 8 * DAY
    moments = [0, now + 1, *(rng.randrange(now - 10 * MINUTE) for _ in range(6_000))]
    newest = max(moment for moment in moments if moment <= now)

    def count(start: int, end: int) -> int:
        return sum(start < moment <= end for moment in moments)

    found = read(database, moments, now)

    shifts = {"an hour earlier": HOUR, "a day earlier": DAY, "a week earlier": 7 * DAY}
    assert found is not None
    assert found.silence_s == (now - newest) / 1e6
    assert found.hour.rows == count(now - HOUR, now)
    assert found.hour.earlier == {name: count(now - HOUR - by, now - by) for name, by in shifts.items()}
    assert found.silence.rows == 0
    assert found.silence.earlier == {name: count(newest - by, now - by) for name, by in shifts.items()}


def test_busy_stretches_are_counted_on_one_sample(database: Database) -> None:
    """However many rows there are, no count exceeds a thousand, and their ratio is that of the rows."""
    hour_before = [HOUR + number for number in range(8000)]
    found = read(database, [0, *hour_before, *(2 * HOUR + number for number in range(4000))], 3 * HOUR - 1)

    assert found is not None
    assert found.hour.earlier.keys() == {"an hour earlier"}
    assert 400 < found.hour.earlier["an hour earlier"] <= 1000
    assert 0.4 < found.hour.rows / found.hour.earlier["an hour earlier"] < 0.6


def test_before_the_first_row_nothing_is_known(database: Database) -> None:
    """A stretch that began before the version's first row is left out, and without rows there is nothing to say."""
    assert read(database, [], 9 * DAY) is None

    found = read(database, [8 * DAY, 9 * DAY], 9 * DAY)

    assert found is not None
    assert found.hour.earlier == {"an hour earlier": 0}
    assert found.silence.earlier == {"an hour earlier": 0, "a day earlier": 0}
