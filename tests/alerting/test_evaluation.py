"""Who hears of an alert that changes, and of one that others have heard of already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.alerting.channels.routes import Route
from app.alerting.evaluation import AlertUpdater, Notifier
from app.alerting.retraining import Retraining
from app.alerting.rules.configured import RuleSet
from app.config.settings import Rule
from app.store.queries import outbox, reports
from app.store.queries.alerts import SEVERITIES
from app.types import SECOND, Micros, ModelSchema, Report, ServedVersions, Severity, Task, new_id
from tests.support.alerting.alert_store import MINUTE, PAGES, Desk, finding
from tests.support.alerting.reports import drift_body

SCHEMA = ModelSchema("m", "1", Task.BINARY, ())
SERVED = ServedVersions(SCHEMA, {"1": SCHEMA})


class Box:
    """A channel that only its name is wanted of: what is told stays in the outbox."""

    def __init__(self, name: str) -> None:
        self.name = name

    def send(self, body: Any, *, timeout_s: float) -> None:
        """Take everything."""


def route(name: str, *severities: Severity) -> Route:
    """A channel that is told of these severities, or of all."""
    return Route(Box(name), frozenset(severities or SEVERITIES))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An empty store."""
    opened = Desk(tmp_path)
    yield opened
    opened.database.close()


def test_who_hears_of_an_alert_that_grows_worse(desk: Desk) -> None:
    """Who is told of critical alerts hears when it turns critical, once, and the end reaches everybody who heard."""
    routes = [route("all"), route("pager", "critical"), route("week", "medium")]
    for severity in (finding("medium"), finding("critical"), finding("medium"), finding("critical"), None):
        desk.record(severity, routes=routes)

    assert [desk.heard(each) for each in routes] == [
        ["[MEDIUM]", "[CRITICAL]", "[RESOLVED]"],
        ["[CRITICAL]", "[RESOLVED]"],
        ["[MEDIUM]", "[RESOLVED]"],
    ]


def test_a_report_tells_of_an_alert_that_grew_worse(desk: Desk) -> None:
    """Who is told of critical alerts hears with the report that says so; no turn of the scheduler need come first."""
    pager = route("pager", "critical")
    rules = RuleSet.of([Rule(name="mine", metric="drift.share", warning=0.2, critical=0.4)])
    updater = AlertUpdater(rules, Notifier([pager], PAGES), Retraining(None, "", 0.3), 0.3)
    for share in (0.3, 0.5):
        body = drift_body({}) | {"drift_share": share}
        report = Report(f"share{share}", "drift", "m", "1", desk.clock.now, "drift", body)
        with desk.database.writer.begin() as connection:
            reports.save(connection, report)
            updater.on_report(connection, report, SERVED)
        desk.clock.forward(MINUTE)

    assert desk.heard(pager) == ["[CRITICAL]"]


def test_every_change_of_an_alert_is_a_line(desk: Desk) -> None:
    """Begin, worsening and end are in the log with value and limit: without a channel, and under a silence too."""
    rules = RuleSet.of([Rule(name="mine", metric="drift.share", warning=0.2, critical=0.4)])
    updater = AlertUpdater(rules, Notifier([], PAGES), Retraining(None, "", 0.3), 0.3)
    desk.silence(60.0)
    with capture_logs() as lines:
        for share in (0.1, 0.3, 0.5, 0.5, 0.3, 0.1, 0.1):
            body = drift_body({}) | {"drift_share": share}
            at = desk.clock.now
            report = Report(new_id(at * 1000), "drift", "m", "1", at, "drift", body)
            with desk.database.writer.begin() as connection:
                reports.save(connection, report)
                updater.on_report(connection, report, SERVED)
            desk.clock.forward(MINUTE)
    told = [(line["event"], line["rule"], line["value"], line["limit"]) for line in lines if "rule" in line]

    assert told == [
        ("alert_firing", "mine", 0.3, 0.2),
        ("alert_worse", "mine", 0.5, 0.4),
        ("alert_resolved", "mine", 0.3, 0.2),
    ]


def test_a_report_on_a_version_that_does_not_answer_changes_no_alert(desk: Desk) -> None:
    """A version that is loaded beside the active one, or is loaded no more, has reports and no alerts."""
    pager = route("pager", "critical")
    rules = RuleSet.of([Rule(name="mine", metric="drift.share", critical=0.4)])
    updater = AlertUpdater(rules, Notifier([pager], PAGES), Retraining(None, "", 0.3), 0.3)
    report = Report("r", "drift", "m", "1", desk.clock.now, "drift", drift_body({}) | {"drift_share": 0.5})
    active = replace(SCHEMA, version="2")
    beside = ServedVersions(active, {"1": SCHEMA, "2": active})
    gone = ServedVersions(active, {"2": active})
    with desk.database.writer.begin() as connection:
        reports.save(connection, report)
        for served in (beside, gone):
            updater.on_report(connection, report, served)

    assert desk.heard(pager) == []


def test_nobody_is_told_that_an_alert_grows_milder(desk: Desk) -> None:
    """Who heard that it is critical does not hear that it is medium by now."""
    everybody = route("all")
    desk.record(finding("critical"), finding("medium"), finding("low"), routes=[everybody])

    assert desk.heard(everybody) == ["[CRITICAL]"]


def test_what_grew_worse_under_a_silence_is_told_after_it(desk: Desk) -> None:
    """The silence keeps it back, and does not swallow it: without a report too, the pager is called when it is over."""
    everybody, pager = routes = [route("all"), route("pager", "critical")]
    desk.record(finding("medium"), routes=routes)
    desk.silence(5)
    desk.record(finding("critical"), finding("critical"), routes=routes)
    silenced = [desk.heard(each) for each in routes]
    desk.clock.forward(300)
    for _ in range(2):
        desk.catch_up(routes)

    assert silenced == [["[MEDIUM]"], []]
    assert [desk.heard(everybody), desk.heard(pager)] == [["[CRITICAL]"], ["[CRITICAL]"]]


def test_a_new_channel_hears_of_what_fires(desk: Desk) -> None:
    """A channel whose secret was changed is another one, and hears of what fires; who has heard does not."""
    old, other, new = route("old"), route("other"), route("new")
    desk.record(finding(), routes=[old, other])
    first = desk.heard(other)
    for _ in range(2):
        desk.catch_up([new, other])
    desk.record(None, routes=[new, other])

    assert first == ["[CRITICAL]"]
    assert desk.heard(new) == ["[CRITICAL]", "[RESOLVED]"]
    assert desk.heard(other) == ["[RESOLVED]"]


def test_an_alert_that_fires_for_months_is_told_once(desk: Desk) -> None:
    """Old messages are deleted, but not those that say who has heard of what still fires."""
    everybody = route("all")
    desk.record(finding(), routes=[everybody])
    first = desk.heard(everybody)
    desk.clock.forward(60 * 86_400)
    later = Micros(desk.clock.now - 30 * 86_400 * SECOND)
    with desk.database.writer.begin() as connection:
        outbox.purge(connection, before=later, limit=100)
    desk.record(finding(), routes=[everybody])
    again = desk.heard(everybody)
    desk.record(None, routes=[everybody])
    with desk.database.writer.begin() as connection:
        gone = outbox.purge(connection, before=later, limit=100)

    assert (first, again, gone) == (["[CRITICAL]"], [], 1)
