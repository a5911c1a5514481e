"""What must be told of an alert: once, not while it is silenced, and its end to whoever heard of its beginning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from app.store.database import Connection, Database
from app.store.queries import alerts, reports
from app.store.queries.alerts import Alert, Change, Finding, Matcher, Silence, record
from app.store.queries.replicas import database_now
from app.types import SECOND, Micros, Report
from tests.support.alerting.reports import drift_body

RULE = "feature_drift"
FINDING = Finding("low", 0.3, 0.01, "a drifted", ("a",))
Held = Mapping[str, Finding | None]


class Story:
    """Reports on one version, a minute after another from now on, and what each makes of the alerts."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        with connection.begin():
            self.start = database_now(connection)
        self.minute = 0

    def report(self, finding: Finding | None, *, needed: int = 1) -> list[str]:
        """The events that a report leads to, in which the rule holds or not."""
        return [change.event for change in self.changes({RULE: finding}, needed=needed)]

    def changes(self, verdicts: Held, *, needed: int = 1) -> list[Change]:
        """The changes that a report leads to."""
        self.minute += 1
        report = Report(f"r{self.minute}", "drift", "m", "1", self.at(self.minute), "drift", drift_body({}))
        with self.connection.begin():
            reports.save(self.connection, report)
            return record(self.connection, report, verdicts, {RULE: needed})

    def at(self, minute: float) -> Micros:
        """The moment of a minute of the story."""
        return Micros(self.start + round(minute * 60 * SECOND))

    def silence(self, matcher: Matcher, start: float, end: float) -> str:
        """A silence over some minutes of the story."""
        made = Silence(f"s{start}", matcher, self.at(start), self.at(end), "why", "ann", self.at(0))
        with self.connection.begin():
            alerts.add_silence(self.connection, made)
        return made.silence_id

    @property
    def shown(self) -> list[Alert]:
        """What GET /alerts lists."""
        with self.connection.begin():
            return list(alerts.shown(self.connection, "m", "1"))


@pytest.fixture
def story(database: Database) -> Iterator[Story]:
    """A story in an empty store."""
    with database.writer.connect() as connection:
        yield Story(connection)


def test_each_change_is_told_once(story: Story) -> None:
    """However often the rule holds, its beginning is told once and its end once."""
    told = [story.report(finding) for finding in (None, FINDING, FINDING, FINDING, None, None, FINDING)]

    assert told == [[], ["firing"], [], [], ["resolved"], [], ["firing"]]


def test_a_rule_is_pending_until_it_has_held_long_enough(story: Story) -> None:
    """A rule that needs three reports in a row fires with the third, and its alert dates from the first."""
    told, states = [], []
    for finding in (FINDING, FINDING, None, FINDING, FINDING, FINDING, FINDING):
        told += story.report(finding, needed=3)
        states.append([alert.state for alert in story.shown])

    assert states == [["pending"], ["pending"], [], ["pending"], ["pending"], ["firing"], ["firing"]]
    assert told == ["firing"]
    assert (story.shown[0].since, story.shown[0].held) == (story.at(4), 4)


def test_a_silenced_alert_is_shown_and_not_told(story: Story) -> None:
    """Under a silence an alert opens and resolves, and nobody hears of it."""
    story.silence(Matcher(rule=RULE), 0, 60)

    assert [story.report(FINDING), [alert.state for alert in story.shown]] == [[], ["firing"]]
    assert [story.report(None), [alert.state for alert in story.shown]] == [[], ["resolved"]]


def test_what_still_fires_after_a_silence_is_told(story: Story) -> None:
    """The first report behind the silence's end tells of the alert, once."""
    story.silence(Matcher(rule=RULE), 0, 2.5)

    assert [story.report(FINDING) for _ in range(4)] == [[], [], ["firing"], []]


def test_the_end_is_told_to_whoever_heard_of_the_beginning(story: Story) -> None:
    """A silence that comes after the alert was told does not keep its end secret: an open incident must close."""
    story.report(FINDING)
    story.silence(Matcher(), 1.5, 60)

    assert story.report(None) == ["resolved"]


def test_a_silence_planned_ahead_begins_at_its_time(story: Story) -> None:
    """A maintenance window covers what opens inside of it, and nothing before."""
    story.silence(Matcher(), 1.5, 60)

    assert [change.alert.rule for change in story.changes({"drift_many": FINDING})] == ["drift_many"]
    assert story.report(FINDING) == []


def test_a_maintenance_window_keeps_its_times(story: Story) -> None:
    """What was told before it is resolved aloud inside of it; what begins inside waits for its end, then is told."""
    story.silence(Matcher(), 1.5, 4.5)
    many = {"drift_many": FINDING}

    told = [
        [(change.event, change.alert.rule) for change in story.changes(verdicts)]
        for verdicts in ({RULE: FINDING}, {RULE: None}, many, many, many, many)
    ]

    assert told == [[("firing", RULE)], [("resolved", RULE)], [], [], [("firing", "drift_many")], []]


def test_a_silence_that_was_ended_covers_nothing(story: Story) -> None:
    """Ended early, a silence leaves nobody in the dark; ending it again changes nothing."""
    made = story.silence(Matcher(), 0, 60)
    with story.connection.begin():
        first = alerts.end_silence(story.connection, made)
        again = alerts.end_silence(story.connection, made)
        unknown = alerts.end_silence(story.connection, "unknown")

    assert first is not None
    assert first == again
    assert unknown is None
    assert story.report(FINDING) == ["firing"]


@pytest.mark.parametrize(
    ("matcher", "covers"),
    [
        (Matcher(), True),
        (Matcher(rule=RULE, severity="low", feature="a"), True),
        (Matcher(rule="drift_many"), False),
        (Matcher(severity="critical"), False),
        (Matcher(feature="b"), False),
        (Matcher(rule=RULE, severity="high"), False),
    ],
)
def test_a_silence_covers_what_fits_all_that_it_names(story: Story, matcher: Matcher, *, covers: bool) -> None:
    """Rule, severity and feature must all fit; what is not named fits everything."""
    story.silence(matcher, 0, 60)

    assert story.report(FINDING) == ([] if covers else ["firing"])


def test_a_second_feature_is_heard_of_under_the_silence_of_the_first(story: Story) -> None:
    """A silence over a feature covers alerts about this feature alone."""
    story.silence(Matcher(feature="a"), 0, 60)
    both = Finding("low", 0.3, 0.01, "a and b drifted", ("a", "b"))

    assert [story.report(FINDING), story.report(both)] == [[], ["firing"]]


def test_an_alert_is_acknowledged_once(story: Story) -> None:
    """The first who acknowledges stays, through later reports too; pending and resolved alerts are left alone."""
    [opened] = story.changes({RULE: FINDING})
    with story.connection.begin():
        first = alerts.acknowledge(story.connection, opened.alert.alert_id, by="ann")
        alerts.acknowledge(story.connection, opened.alert.alert_id, by="bob")
        assert alerts.acknowledge(story.connection, "unknown", by="ann") is None
    story.report(FINDING)

    [alert] = story.shown
    assert first is not None
    assert (alert.acknowledged_by, alert.acknowledged_at) == ("ann", first.acknowledged_at)
    story.report(None)
    story.report(FINDING)
    assert [found.acknowledged_by for found in story.shown] == [None, "ann"]
