"""Reports that are past their retention go; those that somebody may still ask for stay."""

from __future__ import annotations

from typing import Any

from app.store.database import Connection, Database
from app.store.queries import alerts, reports
from app.store.queries.alerts import Finding, record
from app.types import SECOND, Micros, Report, new_id

BODY: Any = {"drift_share": 0.5}
"""A body that is cut down."""


def report(second: int) -> Report:
    """A report of that second of the year 2023."""
    at = Micros((1_690_000_000 + second) * SECOND)
    return Report(new_id(at * 1000), "drift", "m", "1", at, "drift", BODY)


def saved(connection: Connection, number: int) -> list[Report]:
    """Reports of as many seconds."""
    made = [report(second) for second in range(number)]
    for each in made:
        reports.save(connection, each)
    return made


def test_old_reports_go_a_few_at_a_time(database: Database) -> None:
    """All reports before a moment are deleted, in small parts, and no later one is."""
    with database.writer.begin() as connection:
        made = saved(connection, 50)
        before = Micros(made[45].checked_at - SECOND // 2)
        gone = [reports.purge(connection, before=before, limit=500) for _ in range(4)]
        left = [each.report_id for each in made if reports.get(connection, each.report_id)]
    assert gone == [20, 20, 5, 0]
    assert left == [each.report_id for each in made[45:]]


def test_the_report_of_an_alert_stays(database: Database) -> None:
    """An old report stays as long as an alert refers to it."""
    with database.writer.begin() as connection:
        first, second = saved(connection, 2)
        record(connection, first, {"feature_drift": Finding("low", 0.3, 0.01, "a drifted")}, {})
        assert reports.purge(connection, before=Micros(second.checked_at + SECOND), limit=500) == 1
        opened = alerts.latest(connection, "m", "1", "feature_drift")
        assert opened
        assert reports.get(connection, opened.report_id) == first


def test_a_long_history_is_thinned_evenly(database: Database) -> None:
    """Of each part of the period the last report is taken; the newest of all is among them."""
    with database.writer.begin() as connection:
        made = saved(connection, 50)
        times = [each.checked_at for each in made]
        few = reports.spread(connection, "drift", "m", "1", points=5)
        some = reports.spread(connection, "drift", "m", "1", start=times[10], end=times[20], points=100)
        none = reports.spread(connection, "drift", "m", "2", points=5)
        before = reports.spread(connection, "drift", "m", "1", end=times[0], points=5)
        read = reports.at(connection, "drift", "m", "1", few)

    assert few == [times[9], times[19], times[29], times[39], times[49]]
    assert some == times[10:20]
    assert (none, before) == ([], [])
    assert [each.report_id for each in read] == [made[number].report_id for number in (9, 19, 29, 39, 49)]
