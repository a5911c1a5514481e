"""A shadow's answers: read like a version's own, with the features and outcomes of the rows that they repeat."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from app.metrics import JournalMetrics
from app.store.database import Database
from app.store.journal.journal import Journal
from app.store.queries.labelled import (
    Pair,
    ShadowAnswer,
    insert_shadow_answers,
    label_delay,
    read_error_stream,
    read_labelled,
    read_pairs,
)
from app.store.queries.outcomes import Rules, Submission, record
from app.store.queries.predictions import find, insert
from app.store.queries.windows import newer_rows, read_arrivals, read_window
from app.store.retention import clean
from app.types import SECOND, Answer, Micros, Outcome
from tests.support.rows import answers_of, prediction

ROWS = 700
BAD = Answer("bad", (0.75, 0.25))


@pytest.fixture
def shadowed(database: Database) -> Database:
    """700 rows a second apart, the first 600 repeated by two shadows; every tenth with an outcome 5 s later."""
    rows = [prediction(f"p{number}", number * SECOND, features=[number]) for number in range(ROWS)]
    rules = Rules(lambda _schema, label: label, hold=False)
    with database.writer.begin() as connection:
        insert(connection, rows)
        insert_shadow_answers(connection, "2", [ShadowAnswer(row, BAD, 3) for row in rows[:600]])
        insert_shadow_answers(connection, "3", [ShadowAnswer(row, Answer(1.5), 3) for row in rows[:600]])
        for number in range(0, ROWS, 10):
            submission = Submission(Outcome(f"p{number}", "good"), Micros((number + 5) * SECOND))
            record(rules, connection, [submission])
    return database


def test_a_shadow_s_window_has_its_answers_to_the_stored_rows(shadowed: Database) -> None:
    """The same rows as the active version's window over the same time, with other answers."""
    before = Micros(600 * SECOND)
    with shadowed.readers.connect() as connection:
        champion = read_window(connection, "m", "1", rows=50, hours=0.1, before=before)
        shadow = read_window(connection, "m", "2", rows=50, hours=0.1, role="shadow")
        numbers = read_window(connection, "m", "3", rows=50, hours=0.1, role="shadow")

    assert shadow.rows > 20
    assert (shadow.ids, shadow.features, shadow.outcomes) == (champion.ids, champion.features, champion.outcomes)
    assert shadow.sampled_from == champion.sampled_from
    assert set(champion.predictions) == {"good"}
    assert set(map(Answer, shadow.predictions, shadow.probabilities)) == {BAD}
    assert set(zip(numbers.predictions, numbers.probabilities, strict=True)) == {(1.5, None)}


def test_what_is_known_of_a_version_does_not_count_its_shadow(shadowed: Database) -> None:
    """In the role of an active version a shadow has no rows, and the other way round."""
    with shadowed.readers.connect() as connection:
        for version, role in (("2", "active"), ("1", "shadow")):
            assert read_window(connection, "m", version, rows=50, hours=0, role=role).rows == 0  # type: ignore[arg-type]  # mypy widens the literals
        assert newer_rows(connection, "m", "2", after=Micros(589 * SECOND), most=100, role="shadow") == 10
        assert newer_rows(connection, "m", "2", after=Micros(0), most=100) == 0


@pytest.mark.parametrize("segments", [None, {"first": 0, "region": None}])
def test_outcomes_beside_a_shadow_s_answers(shadowed: Database, segments: dict[str, int | None] | None) -> None:
    """Realised performance reads the outcomes of the repeated rows; segments come from these rows too."""
    with shadowed.readers.connect() as connection:
        found = read_labelled(connection, "m", "2", rows=100, hours=0, segments=segments, role="shadow")
        judged = read_error_stream(connection, "m", "2", most=1000, role="shadow")
        delay = label_delay(connection, "m", "2", share=0.95, role="shadow")
        arrivals = read_arrivals(connection, "m", "2", Micros(ROWS * SECOND), role="shadow")

    assert found.rows == 100
    assert set(found.predictions) == {"bad"}
    assert [outcome for outcome in found.outcomes if outcome is not None] == ["good"] * 10
    assert dict(found.segments) == ({"first": [*range(500, 600)], "region": ["EU"] * 100} if segments else {})
    assert len(judged) == 60
    assert {(each.prediction, each.outcome) for each in judged} == {("bad", "good")}
    assert delay == 5.0
    assert arrivals is not None
    assert arrivals.silence_s == 101.0


def test_pairs_of_answers(shadowed: Database) -> None:
    """Each answer of the shadow stands beside the one that left the service, and the outcome, by who answered."""
    with shadowed.readers.connect() as connection:
        pairs = read_pairs(connection, "m", "2", rows=100, hours=0)

    assert list(pairs) == ["1"]
    assert sorted(pairs["1"], key=str) == [Pair("bad", "good", "good")] * 10 + [Pair("bad", "good", None)] * 90


def test_an_answer_is_stored_once(shadowed: Database) -> None:
    """After a lost connection a group is written again, and what was stored stands."""
    row = prediction("p1", SECOND)
    with shadowed.writer.begin() as connection:
        insert_shadow_answers(connection, "2", [ShadowAnswer(row, Answer("good"), 9)])
    with shadowed.readers.connect() as connection:
        assert answers_of(connection, "2", ["p1", "p699"]) == {"p1": BAD}


def test_retention_takes_shadows_with_their_rows(shadowed: Database) -> None:
    """A clean-up leaves no prediction and no shadow's answer that is past its time, and all others."""
    ids = [f"p{number}" for number in range(ROWS)]

    async def scenario() -> None:
        journal = Journal(shadowed, JournalMetrics(CollectorRegistry()), max_rows=10)
        journal.start()
        await clean(journal, retention_s=450, hold_s=1e6, now=lambda: Micros(ROWS * SECOND))
        await journal.close()

    asyncio.run(scenario())
    with shadowed.readers.connect() as connection:
        for version in "23":
            assert set(answers_of(connection, version, ids)) == set(ids[250:600])
        assert set(find(connection, ids)) == set(ids[250:])
