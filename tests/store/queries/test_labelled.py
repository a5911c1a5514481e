"""Labelled windows: the rows of the window, with their truth; and judged answers in the order of their truth."""

from __future__ import annotations

import random

import pytest

from app.store.database import Database
from app.store.queries.labelled import Labelled, read_error_stream, read_labelled
from app.store.queries.outcomes import Rules, Submission, record
from app.store.queries.predictions import insert
from app.store.queries.windows import read_window
from app.types import Answer, Label, Micros, Outcome
from tests.support.rows import prediction

HOUR = 3_600_000_000


def write(database: Database, outcomes: list[tuple[Outcome, int]]) -> None:
    """Record outcomes, each at its own time."""
    rules = Rules(lambda _stored, label: label, hold=False)
    with database.writer.begin() as connection:
        record(rules, connection, [Submission(outcome, Micros(at)) for outcome, at in outcomes])


@pytest.mark.parametrize(("rows", "hours"), [(30, 0.0), (30, 1.0), (200, 1.0), (1000, 0.0)])
def test_a_labelled_window_is_the_window(database: Database, rows: int, hours: float) -> None:
    """It has the rows of the window of the same name, in the same order, with the same truth, also when sampled."""
    rng = random.Random(rows)
    names = [f"{rng.getrandbits(64):x}" for _ in range(400)]
    with database.writer.begin() as connection:
        insert(connection, [prediction(name, rng.randrange(HOUR // 2)) for name in names])
        insert(connection, [prediction("shadow", HOUR, role="shadow"), prediction("other", HOUR, model_version="2")])
    write(database, [(Outcome(name, number, value=1.0), HOUR + number) for number, name in enumerate(names[::2])])
    write(database, [(Outcome(name, "late", revise=True), 2 * HOUR) for name in names[::8]])
    with database.readers.connect() as connection:
        for before in (None, Micros(HOUR // 4), Micros(0)):
            window = read_window(connection, "m", "1", rows=rows, hours=hours, before=before)
            labelled = read_labelled(connection, "m", "1", rows=rows, hours=hours, before=before)

            assert labelled.predicted_at == window.predicted_at
            assert labelled.outcomes == window.outcomes
            assert labelled.values == window.values
            assert labelled.predictions == window.predictions
            assert [tuple(each or ()) for each in labelled.probabilities] == window.probabilities
            assert labelled.sampled_from == window.sampled_from


def test_revisions_change_the_truth_and_not_its_time(database: Database) -> None:
    """The latest revision counts, the time is that of the first; 0, false and "" are outcomes, None is none."""
    with database.writer.begin() as connection:
        insert(connection, [prediction(name, at) for at, name in enumerate("abcd")])
    write(database, [(Outcome("a", 1), 5), (Outcome("b", False), 6), (Outcome("d", ""), 7)])
    write(database, [(Outcome("a", 0, value=2.0, revise=True), 9)])
    with database.readers.connect() as connection:
        window = read_labelled(connection, "m", "1", rows=10, hours=1)

    assert window.outcomes == [0, False, None, ""]
    assert window.values == [2.0, None, None, None]
    assert window.recorded_at == [5, 6, None, 7]


def test_segments_are_features_or_keys_of_the_context(database: Database) -> None:
    """A segment's values come from a feature by its position, or from the context; null where a row has none."""
    with database.writer.begin() as connection:
        insert(
            connection,
            [prediction("a", 1), prediction("b", 2, context=None), prediction("c", 3, features=[0, 0, None])],
        )
    with database.readers.connect() as connection:
        window = read_labelled(connection, "m", "1", rows=10, hours=1, segments={"channel": 2, "region": None})

    assert window.segments == {"channel": ["web", "web", None], "region": ["EU", None, "EU"]}


def test_nothing_stored_is_an_empty_window(database: Database) -> None:
    """A version without predictions has a window without rows."""
    with database.readers.connect() as connection:
        assert read_labelled(connection, "m", "1", rows=10, hours=1) == Labelled([], [], [], [], [], [])
        assert read_error_stream(connection, "m", "1", most=10) == []


def test_judged_answers_come_in_the_order_of_their_truth(database: Database) -> None:
    """By the time at which each truth first came, with its latest revision; only this version's, of the latest ones."""
    with database.writer.begin() as connection:
        insert(connection, [prediction(name, at, answer=Answer(name)) for at, name in enumerate("abc")])
        insert(connection, [prediction("s", 9, role="shadow"), prediction("v", 9, model_version="2")])
    first: list[tuple[str, Label, int]] = [("c", 1, 5), ("a", 0, 6), ("b", False, 7), ("s", 1, 8), ("v", 1, 8)]
    write(database, [(Outcome(name, label), at) for name, label, at in first])
    write(database, [(Outcome("c", "revised", revise=True), 20)])
    with database.readers.connect() as connection:
        found = [tuple(each) for each in read_error_stream(connection, "m", "1", most=10)]
        latest = read_error_stream(connection, "m", "1", most=3)

    assert found == [(5, "revised", "c"), (6, 0, "a"), (7, False, "b")]
    assert [each.prediction for each in latest] == ["b"]
