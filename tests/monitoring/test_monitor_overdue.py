"""Whether checks that are due do come to an end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.config.settings import Config
from app.monitoring.monitor import Overdue
from app.store.database import Connection, open_database
from app.store.migrate import upgrade
from app.store.queries import reports
from app.store.queries.replicas import database_now
from app.types import SECOND, Micros, ModelSchema, Report, Task

SCHEMA = ModelSchema("m", "1", Task.BINARY, ())
AGO = Micros(1_000_000 * SECOND)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """A transaction on an empty store."""
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(database.writer)
    with database.writer.begin() as opened:
        yield opened
    database.close()


class Due:
    """Checks that are due when a test says so, long since when it says that."""

    def __init__(self, **sections: object) -> None:
        self.kinds = {"drift"}
        config = Config.model_validate(sections)
        self.overdue = Overdue(config, self)

    def is_due(self, _connection: Connection, kind: str, _schema: ModelSchema) -> bool:
        """Whether the test says so."""
        return kind in self.kinds

    def seconds(self, connection: Connection, kind: str = "drift") -> float:
        """How long a check has been due."""
        found: float = self.overdue.read(connection, SCHEMA)[kind]["overdue_s"]
        return found

    def long_since(self, connection: Connection) -> float:
        """The same, after what was due at the last look has been due for many days more."""
        self.seconds(connection)
        self.overdue.since = {key: Micros(since - AGO) for key, since in self.overdue.since.items()}
        return self.seconds(connection)


def test_the_limits_are_three_intervals(connection: Connection) -> None:
    """Three intervals, and a minute at least: a check takes its time."""
    found = Due(drift={"every": "5m"}, performance={"every": "1s"}).overdue.read(connection, SCHEMA)

    assert {kind: check["limit_s"] for kind, check in found.items()} == {"drift": 900.0, "performance": 60.0}


def test_what_is_due_counts_from_when_it_was_first_seen(connection: Connection) -> None:
    """A service that has just begun is not overdue, whatever waits for it; what is due no longer begins anew."""
    due = Due()
    assert due.seconds(connection) < 5
    assert due.long_since(connection) > 900_000
    due.kinds = set()
    assert due.seconds(connection) == 0
    due.kinds = {"drift"}
    assert due.seconds(connection) < 5
    assert due.seconds(connection, "performance") == 0


@pytest.mark.parametrize("status", ["stable", "error"])
def test_a_check_that_ends_is_not_overdue(connection: Connection, status: str) -> None:
    """Well or not: one that keeps failing has a rule of its own. A report on another version is none on this."""
    due = Due()
    report = Report("r", "drift", "m", "2", database_now(connection), status, {"status": "ok", "errors": []})
    reports.save(connection, report)
    assert due.long_since(connection) > 900_000
    reports.save(connection, replace(report, report_id="s", model_version="1"))
    assert due.long_since(connection) < 5
