"""What reading and keeping alerts costs: every row is found by an index, and old ones go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import event, func, select, text

from app.metrics import JournalMetrics
from app.store.database import Connection, Database
from app.store.journal.journal import Journal
from app.store.queries import alerts, outbox, reports
from app.store.queries.alerts import Finding, record
from app.store.retention import clean
from app.store.tables import ALERTS
from app.types import SECOND, Micros, Report
from tests.support.rows import EMPTY_BODY

DAY = 86_400 * SECOND
TABLES = ("alerts", "outbox", "reports")
FINDING = Finding("low", 0.3, 0.01, "a drifted", ("a",))


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A connection in a transaction."""
    with database.writer.begin() as connection:
        yield connection


def read_all(connection: Connection) -> None:
    """What a report's transaction, a delivery or a scrape reads."""
    alerts.latest(connection, "m", "1", "feature_drift")
    alerts.still_open(connection, "m", "1")
    alerts.shown(connection, "m", "1")
    alerts.told(connection, since=Micros(1))
    alerts.unwatched(connection, "m", {"1"})
    alerts.purge(connection, before=Micros(1), limit=10)
    outbox.is_stored(connection, channel="x", event="firing", keys=["a"])
    outbox.is_due(connection, "x", now=Micros(1))
    outbox.supersede(connection, "x", now=Micros(1))
    reports.latest_of_each(connection, "m", "1")


def plan(connection: Connection, statement: str, parameters: Any) -> str:
    """How the database would run a statement, if no table were too small for an index to pay."""
    if connection.dialect.name == "sqlite":
        return "\n".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
    return "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())


def test_no_read_looks_at_every_row(connection: Connection) -> None:
    """With a year of alerts, reports and messages a report costs what it did on the first day."""
    made: list[tuple[str, Any]] = []

    @event.listens_for(connection, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        made.append((statement, parameters))

    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL enable_seqscan = off"))
    read_all(connection)
    event.remove(connection, "before_cursor_execute", note)
    plans = [plan(connection, *each) for each in made if any(name in each[0] for name in TABLES)]

    assert len(plans) >= 10
    for found in plans:
        assert "SCAN" not in found
        assert "Seq Scan" not in found


def test_alerts_that_ended_long_ago_go(connection: Connection) -> None:
    """Of resolved and passed alerts the old ones are deleted, a few at a time; what is open stays, however old."""
    first = Report("r1", "drift", "m", "1", Micros(1), "drift", EMPTY_BODY)
    second = replace(first, report_id="r2", checked_at=Micros(10))
    rules = ("passes", "resolves", "ends_late", "stays")
    for report in (first, second):
        reports.save(connection, report)
    record(connection, first, dict.fromkeys(rules, FINDING), {"passes": 5})
    record(connection, second, {"passes": None, "resolves": None}, {})
    record(connection, replace(second, checked_at=Micros(20)), {"ends_late": None}, {})

    gone = [alerts.purge(connection, before=Micros(20), limit=1) for _ in range(3)]
    left = {rule: alerts.latest(connection, "m", "1", rule) for rule in rules}

    assert gone == [1, 1, 0]
    assert [rule for rule, alert in left.items() if alert] == ["ends_late", "stays"]


def test_the_cleaning_sees_to_it(database: Database) -> None:
    """An alert is there 89 days after its end, and gone after 91."""
    began, ended = (Report(f"r{number}", "drift", "m", "1", Micros(number), "drift", EMPTY_BODY) for number in (1, 2))
    with database.writer.begin() as connection:
        reports.save(connection, began)
        record(connection, began, {"feature_drift": FINDING}, {})
        record(connection, ended, {"feature_drift": None}, {})

    async def cleaned(days: int) -> int:
        journal = Journal(database, JournalMetrics(CollectorRegistry()), max_rows=1)
        journal.start()
        try:
            return await clean(journal, retention_s=1, hold_s=1, now=lambda: Micros(days * DAY))
        finally:
            await journal.close()

    def left() -> int:
        with database.readers.connect() as connection:
            return connection.execute(select(func.count()).select_from(ALERTS)).scalar_one()

    assert [asyncio.run(cleaned(days)) >= 0 and left() for days in (89, 91)] == [1, 0]
