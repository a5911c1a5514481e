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
from app.store.queries.outcomes import Known, Revision, Rules, Submission, append, look_up, record, writer
from app.store.queries.predictions import insert
from app.store.queries.versions import remember
from app.store.sql import MAX_INSERT_ROWS
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
    assert statements[1:-2] == ["INSERT"] * len(statements[1:-2])
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
