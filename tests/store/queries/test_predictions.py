"""Predictions, outcomes, reports and their deletion, on both databases."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.store.database import Database
from app.store.queries import reports
from app.store.queries.labelled import label_delay, read_page
from app.store.queries.outcomes import Rules, Submission, expire, pending, record, revisions_of
from app.store.queries.predictions import Taken, find, insert, stream
from app.store.queries.versions import remember
from app.store.retention import purge_chunks
from app.store.tables import OUTCOMES, PREDICTIONS
from app.types import SECOND, Feature, FeatureType, Label, Micros, ModelSchema, Outcome, OutcomeStatus, Report, Task
from tests.support.rows import EMPTY_BODY, prediction

RULES = Rules(lambda _stored, label: label, hold=True)


def put(database: Database, *rows: Any) -> None:
    """Store predictions."""
    with database.writer.begin() as connection:
        insert(connection, list(rows))


def report_outcomes(database: Database, *outcomes: Outcome, now: int = 5_000) -> list[OutcomeStatus]:
    """Store outcomes, and give what became of them."""
    with database.writer.begin() as connection:
        submissions = [Submission(outcome, Micros(now), "key") for outcome in outcomes]
        return [result.status for result in record(RULES, connection, submissions)]


def test_a_row_comes_back_as_it_was(database: Database) -> None:
    """Every field survives the round trip: numbers to the last bit, missing values, labels' types, any language."""
    odd = prediction(
        "b", features=[0.1 + 0.2, 5e-324, -1.7976931348623157e308, "日本 \U0001f600", "", False], context=None
    )
    rows = [prediction("a"), odd]
    with database.writer.begin() as connection:
        schema = ModelSchema("m", "1", Task.BINARY, (Feature("x", FeatureType.NUMERIC),), ("bad", "good"))
        remember(connection, schema, "sha", now=Micros(1))
        remember(connection, schema, "other", now=Micros(2))
        insert(connection, rows)
    with database.readers.connect() as connection:
        found = find(connection, ["a", "b", "nobody"])

    assert {key: stored.prediction for key, stored in found.items()} == {"a": rows[0], "b": rows[1]}
    assert found["a"].classes == ["bad", "good"]


def test_a_repeated_insert_is_the_same_row(database: Database) -> None:
    """Trying the same rows again, after a commit whose answer was lost, changes nothing and fails nobody."""
    put(database, prediction("a"), prediction("b"))
    put(database, prediction("a"), prediction("b"))

    with database.readers.connect() as connection:
        assert len(list(stream(connection))) == 2


def test_an_id_of_somebody_else_is_taken(database: Database) -> None:
    """An id that another request has stored is refused, with all that came along, and the first row stays."""
    put(database, prediction("a"))
    with pytest.raises(Taken, match="a"), database.writer.begin() as connection:
        insert(connection, [prediction("b", request_id="r2"), prediction("a", request_id="r2")])

    with database.readers.connect() as connection:
        assert [row.prediction.request_id for row in stream(connection)] == ["r"]


def test_ids_beyond_one_statement_are_found(database: Database) -> None:
    """Thousands of ids are looked up in parts."""
    put(database, *(prediction(f"p{number:05}", number) for number in range(1_700)))

    with database.readers.connect() as connection:
        assert len(find(connection, [f"p{number:05}" for number in range(2_000)])) == 1_700


def test_a_stream_is_bounded_and_ordered(database: Database) -> None:
    """Rows come by (time, id), from the start on and before the end, by version, by label, and from behind a row on."""
    rows = [prediction(name, at) for name, at in (("d", 10), ("c", 10), ("b", 20), ("a", 30))]
    put(database, *rows, prediction("x", 20, model_version="2"))
    report_outcomes(database, Outcome("c", 0), Outcome("c", "", revise=True), Outcome("a", False))

    def ids(**bounds: Any) -> str:
        with database.readers.connect() as connection:
            return "".join(row.prediction.prediction_id for row in stream(connection, **bounds))

    assert ids() == "cdbxa"
    assert ids(start=Micros(10), end=Micros(20)) == "cd"
    assert ids(version="1") == "cdba"
    assert ids(labelled=True) == "ca"
    assert ids(labelled=False) == "dbx"
    assert ids(after=(Micros(10), "c"), limit=2) == "db"


def test_an_export_carries_all_revisions(database: Database) -> None:
    """A page of an export holds each prediction with every revision of its outcome."""
    put(database, prediction("a"), prediction("b"))
    report_outcomes(database, Outcome("a", 0, value=1.0), Outcome("a", 0, value=2.0, revise=True))

    with database.readers.connect() as connection:
        page = read_page(connection, {"limit": 10})

    assert [[item.value for item in revisions] for _, revisions in page] == [[1.0, 2.0], []]


@pytest.mark.parametrize("label", [0, 0.0, False, "", 1, 2.5, True, 'ja: "x"', -(2**63)], ids=repr)
def test_outcomes_keep_their_type(database: Database, label: Label) -> None:
    """Whatever a label is, it is stored as that, and told from what is only alike."""
    put(database, prediction("p"))

    assert report_outcomes(database, Outcome("p", label), Outcome("p", label)) == ["matched", "duplicate"]
    with database.readers.connect() as connection:
        stored = revisions_of(connection, ["p"])["p"][0].outcome
    assert (stored, type(stored)) == (label, type(label))
    assert report_outcomes(database, Outcome("p", "other")) == ["conflict"]


def test_the_order_within_a_group_counts(database: Database) -> None:
    """Of several reports in one group, each sees what those before it did, as if they had come alone."""
    put(database, prediction("p"))
    reports_ = [Outcome("p", 0), Outcome("p", 1), Outcome("p", 1, revise=True), Outcome("q", 1), Outcome("q", 1)]

    assert report_outcomes(database, *reports_) == ["matched", "conflict", "revised", "pending", "duplicate"]


def test_waiting_outcomes_are_paged_and_expire(database: Database) -> None:
    """Pending outcomes are listed by id; expiry takes those whose latest revision is old, and never matched ones."""
    put(database, prediction("matched"))
    report_outcomes(database, Outcome("matched", 1), Outcome("a", 1), Outcome("b", 1), now=100)
    report_outcomes(database, Outcome("b", 2, revise=True), Outcome("c", 1), now=900)

    def waiting(**bounds: Any) -> list[tuple[str, int]]:
        with database.readers.connect() as connection:
            found = pending(connection, **{"since": Micros(0), "limit": 10, **bounds})
            return [(item.prediction_id, item.revision) for item in found]

    assert waiting() == [("a", 1), ("b", 2), ("c", 1)]
    assert waiting(limit=1, after="a") == [("b", 2)]
    assert waiting(since=Micros(500)) == [("b", 2), ("c", 1)]
    with database.writer.begin() as connection:
        assert expire(connection, before=Micros(500), limit=10) == 1
    assert waiting() == [("b", 2), ("c", 1)]
    with database.readers.connect() as connection:
        assert [item.revision for item in revisions_of(connection, ["b"])["b"]] == [1, 2]
        assert "matched" in revisions_of(connection, ["matched"])


def test_the_label_delay_is_that_of_a_slow_class(database: Database) -> None:
    """A class whose outcomes take far longer than the others' has the say where it is asked for by class."""
    put(database, *(prediction(f"p{number}", number) for number in range(100)))
    for number in range(100):
        late = 5_000 if number >= 90 else 10
        report_outcomes(database, Outcome(f"p{number}", int(number >= 90)), now=number + late * SECOND)
    with database.readers.connect() as connection:
        plain = label_delay(connection, "m", "1", share=0.5)
        by_class = label_delay(connection, "m", "1", share=0.5, by_class=True)

    assert (plain, by_class) == (10.0, 5_000.0)


def test_the_label_delay_is_a_quantile(database: Database) -> None:
    """The delay within which 95 % of the first outcomes came, of this version alone; None before the first."""
    put(database, *(prediction(f"p{number}", 1_000_000) for number in range(20)), prediction("x", 0, model_version="2"))
    with database.readers.connect() as connection:
        assert label_delay(connection, "m", "1", share=0.95) is None
    for number in range(20):
        report_outcomes(database, Outcome(f"p{number}", 1), now=1_000_000 * (number + 2))
    report_outcomes(database, Outcome("x", 1), now=10**12)

    with database.readers.connect() as connection:
        assert label_delay(connection, "m", "1", share=0.95) == pytest.approx(19.0)


def test_retention_deletes_in_parts(database: Database) -> None:
    """Old predictions go with their outcomes, oldest first and no more than asked; younger ones stay."""
    put(database, *(prediction(f"p{number:04}", number) for number in range(1_300)))
    report_outcomes(database, *(Outcome(f"p{number:04}", 1) for number in range(1_300)))
    with database.writer.begin() as connection:
        gone = [purge_chunks(connection, before=Micros(1_200), limit=700) for _ in range(3)]
    with database.readers.connect() as connection:
        left = [row.prediction.predicted_at for row in stream(connection)]
        outcomes = connection.execute(select(func.count()).select_from(OUTCOMES)).scalar_one()

    assert gone == [700, 500, 0]
    assert left == list(range(1_200, 1_300))
    assert outcomes == 100


def test_reports_are_found_again(database: Database) -> None:
    """The latest report that did not fail, one by its id, and the history between two times, page by page."""
    bodies: list[Any] = [{"n": number} for number in range(5)]
    made = [
        Report(f"r{number}", "drift", "m", "1", Micros(number * 10), "error" if number == 4 else "ok", body)
        for number, body in enumerate(bodies)
    ]
    with database.writer.begin() as connection:
        for report in [*made, Report("x", "performance", "m", "1", Micros(5), "ok", EMPTY_BODY)]:
            reports.save(connection, report)
    with database.readers.connect() as connection:
        history = partial(reports.history, connection, "drift", "m", "1", limit=2)

        assert reports.latest(connection, "drift", "m", "1") == made[3]
        assert reports.latest(connection, "drift", "m", "2") is None
        assert reports.latest_of_each(connection, "m", "1").keys() == {"drift", "performance"}
        assert reports.get(connection, "r2") == made[2]
        assert reports.get(connection, "nobody") is None
        assert history() == made[:2]
        assert history(after="r1") == made[2:4]
        assert history(start=Micros(10), end=Micros(30)) == made[1:3]


def test_readers_cannot_write(database: Database) -> None:
    """A reader's connection refuses to write, so that one connection alone does."""
    with database.readers.connect() as connection, pytest.raises(DBAPIError, match=r"read-?only"):
        connection.execute(PREDICTIONS.delete())


def test_commits_are_on_disk(database: Database) -> None:
    """The writer waits for the disk at every commit, and readers never wait for the writer."""
    with database.writer.connect() as connection:
        if database.sqlite_version is None:
            assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"
        else:
            assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
    with database.writer.begin() as writing, database.readers.connect() as reading:
        insert(writing, [prediction("unseen")])

        assert list(stream(reading)) == []
