"""What is known of reported ids, and the revisions appended, on both databases."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from app.store.database import Database, open_database
from app.store.journal.writer import Writer
from app.store.migrate import upgrade
from app.store.queries import outcomes
from app.store.queries.outcomes import (
    PENDING_FULL,
    RECOUNT_US,
    Known,
    Revision,
    Rules,
    Submission,
    append,
    look_up,
    record,
    revisions_of,
    writer,
)
from app.store.queries.predictions import insert
from app.store.queries.versions import remember
from app.store.tables import MAX_INSERT_ROWS
from app.types import Label, Micros, ModelSchema, Outcome, OutcomeStatus, Task
from tests.support.processes import Postgres
from tests.support.rows import prediction

RULES = Rules(lambda _schema, label: label, hold=True)


def submissions(ids: Sequence[str], outcome: Label = 1) -> list[Submission]:
    """The same report about each id."""
    return [Submission(Outcome(id_, outcome), Micros(9)) for id_ in ids]


def test_an_id_is_known_by_its_version_and_its_latest_revision(database: Database) -> None:
    """Each id brings the schema of the version that answered it, and of its revisions the latest one."""
    with database.writer.begin() as connection:
        for version, classes in (("1", ("bad", "good")), ("2", ("no", "yes"))):
            remember(connection, ModelSchema("m", version, Task.BINARY, (), classes), "sha", now=Micros(1))
        insert(connection, [prediction("old"), prediction("new", model_version="2"), prediction("x", model_name="?")])
        append(connection, [Revision("old", number, "0", number / 4, None, Micros(9), None) for number in (1, 2, 3)])
        append(connection, [Revision("held", 1, '""', None, None, Micros(9), None)])
        known = look_up(connection, ["old", "new", "x", "held", "nobody"])

    schemas = {id_: None if found.schema is None else found.schema.get("classes") for id_, found in known.items()}
    assert schemas == {"old": ["bad", "good"], "new": ["no", "yes"], "x": None, "held": None, "nobody": None}
    assert known["x"].schema == {}
    assert {id_: found[1:4] for id_, found in known.items()} == {
        "old": (3, 0, 0.75),
        "held": (1, "", None),
        **dict.fromkeys(("new", "x", "nobody"), (0, None, None)),
    }


def test_a_group_of_any_size_is_few_statements(database: Database) -> None:
    """20,000 outcomes are a look or two and a few blocks: groups grow with the load, the cost of a row must not."""
    ids = [f"p{number}" for number in range(20_000)]
    statements: list[str] = []
    with database.writer.begin() as connection:
        event.listen(connection, "before_cursor_execute", lambda *seen: statements.append(seen[2].split()[0]))
        statuses = {result.status for result in record(RULES, connection, submissions(ids))}
        again = {result.status for result in record(RULES, connection, submissions(ids))}

    assert (statuses, again) == ({"pending"}, {"duplicate"})
    assert (statements[0], statements[-2:]) == ("SELECT", ["SELECT", "SELECT"])
    assert statements[1] == "SELECT"  # how many are pending: once for each process
    assert statements[2:-2] == ["INSERT"] * len(statements[2:-2])
    assert len(statements) < 3 + 20_000 / MAX_INSERT_ROWS + 10


def test_a_revision_is_never_overwritten(database: Database) -> None:
    """Whoever adds a revision that another has added meanwhile is told so."""
    row = Revision("p", 1, "0", None, None, Micros(9), None)
    with database.writer.begin() as connection:
        append(connection, [row])
    with pytest.raises(IntegrityError), database.writer.begin() as connection:
        append(connection, [row._replace(outcome="1")])

    with database.writer.begin() as connection:
        assert look_up(connection, ["p"]) == {"p": Known(None, 1, 0, None)}


def test_replicas_that_report_the_same_ids_wait_for_each_other(postgres: Postgres) -> None:
    """Two replicas report the same ids at one moment in opposite orders: each outcome is taken once, and none fails."""
    url = postgres.create_database("same_ids")
    ids = [f"p{number:05}" for number in range(5_000)]
    write, start = writer(RULES), Barrier(2)
    with closing(open_database(url)) as first, closing(open_database(url)) as second:
        upgrade(first.writer)

        def report(database: Database, names: Sequence[str]) -> list[OutcomeStatus]:
            replica = Writer(database.writer)
            start.wait()
            (results,) = replica.commit([(write, submissions(names))])
            replica.drop()
            return [result.status for result in results]

        with ThreadPoolExecutor(2) as replicas:
            one, other = replicas.map(report, (first, second), (ids, ids[::-1]))

    assert sorted(one + other) == ["duplicate"] * len(ids) + ["pending"] * len(ids)


def test_revisions_are_bounded_and_the_latest_are_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outcome takes so many revisions and then a conflict with the reason; a reader gets the latest of each id."""
    monkeypatch.setattr(outcomes, "MAX_REVISIONS", 20)
    revised = [Submission(Outcome("p", number, revise=True), Micros(number)) for number in range(25)]
    with database.writer.begin() as connection:
        results = record(RULES, connection, [*revised, *submissions(["q"])])

    assert [result.status for result in results[19:]] == [
        OutcomeStatus.REVISED,
        *[OutcomeStatus.CONFLICT] * 5,
        "pending",
    ]
    assert "takes no more" in str(results[20].detail)
    with database.readers.connect() as connection:
        latest = revisions_of(connection, ["p", "q", "nobody"], most=3)
    assert {id_: [row.revision for row in rows] for id_, rows in latest.items()} == {"p": [18, 19, 20], "q": [1]}


def test_pending_outcomes_are_bounded(database: Database) -> None:
    """Beyond the bound an outcome is not kept, and the reason is told; one that is there may be revised.

    Once predictions have come there is room again, at the next count.
    """
    rules, start = Rules(lambda _stored, label: label, hold=True, max_pending=3), Micros(1)

    def held(ids: list[str], now: Micros, *, revise: bool = False) -> list[tuple[str, str | None]]:
        sent = [Submission(Outcome(id_, 1, value=float(now), revise=revise), now) for id_ in ids]
        with database.writer.begin() as connection:
            return [(str(result.status), result.detail) for result in record(rules, connection, sent)]

    full = ("unknown", PENDING_FULL)
    assert held(["a", "b", "c", "d"], start) == [("pending", None)] * 3 + [full]
    assert held(["a"], Micros(2), revise=True) == [("revised", None)]
    with database.writer.begin() as connection:
        insert(connection, [prediction("a"), prediction("b")])
    assert held(["d"], Micros(3)) == [full]
    assert held(["d", "e", "f"], Micros(start + 2 * RECOUNT_US)) == [("pending", None)] * 2 + [full]
