"""The store is away: told of without it, written down afterwards, and each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.alerting.evaluation import evaluate
from app.alerting.rules.configured import RuleSet
from app.alerting.service.heartbeat import LIMIT_S, Outage
from app.config.settings import Config
from app.store.database import Connection, Database
from app.store.queries import alerts, reports
from app.store.queries.alerts import Alert, Change, Matcher, Silence
from app.store.queries.replicas import database_now
from app.types import SECOND, Micros, Report, ServedVersions
from tests.support.alerting.heartbeat import SCHEMA, Heard

REASON = "connection refused\nIs the server running?"


class Followed:
    """An outage as a replica follows it, and whom it told."""

    def __init__(self, rules: RuleSet | None = None, silences: Sequence[Silence] = ()) -> None:
        self.heard = Heard()
        self.told = self.heard.alerts
        self.changes: list[Change] = []
        self.outage = Outage(self.heard, rules)
        self.outage.silences = silences
        self._clock = Micros(0)

    def away(self, *seconds: float) -> None:
        """The store is away at looks that are so many seconds apart, and there again at the one after them."""
        for reason, pause in [*((REASON, pause) for pause in seconds), (None, 1.0)]:
            self._clock = Micros(self._clock + round(pause * SECOND))
            self.outage.observe(reason, SCHEMA, self._clock, now=self._clock)

    def on_report(self, connection: Connection, report: Report, served: ServedVersions) -> None:
        """Evaluate the default rules."""
        self.changes += evaluate(connection, report, task=served.active.task, retrain_share=0.3)

    def write(self, connection: Connection, *, times: int = 1) -> list[Alert]:
        """Write down what is over, each outage so many times; the alerts after that."""
        while self.outage.ended:
            ended = self.outage.ended.popleft()
            for _ in range(times):
                self.outage.record(connection, ended, self, ServedVersions(SCHEMA, {"1": SCHEMA}), clock=self._clock)
        return list(alerts.shown(connection, "m", "1"))


def test_an_outage_is_told_once_and_written_down(database: Database) -> None:
    """After ten seconds all hear of it, once; when it is over it is there as resolved, under the id that was told."""
    replica = Followed()
    replica.away(0, 6, 6, 300)
    [told] = replica.told
    with database.writer.begin() as connection:
        [alert] = replica.write(connection)
        report = reports.get(connection, told.report_id)

    assert told.finding.message == "the store could not be reached: connection refused"
    assert (alert.alert_id, alert.state, alert.finding.value) == (told.alert_id, "resolved", 313.0)
    assert [(change.event, change.alert.alert_id) for change in replica.changes] == [("resolved", told.alert_id)]
    assert report is not None
    assert report.service is not None
    assert report.service["outage"] is not None
    assert report.service["outage"]["seconds"] == 313.0


def test_a_short_outage_is_not_told(database: Database) -> None:
    """A restart of the store is over before anybody is woken, twice in a row too."""
    replica = Followed()
    replica.away(0, 6)
    replica.away(1, 6)
    with database.writer.begin() as connection:
        assert replica.write(connection) == []

    assert (replica.told, replica.outage.ongoing) == ([], False)


def test_its_end_stops_the_telling(database: Database) -> None:
    """As soon as the store is back, nobody is told any more that it is away; of a short outage nobody was."""
    replica = Followed()
    replica.away(0, 6)
    assert replica.heard.ends == 0
    replica.away(0, 20)
    assert (replica.heard.ends, len(replica.told)) == (1, 1)
    with database.writer.begin() as connection:
        assert [alert.state for alert in replica.write(connection)] == ["resolved"]


def test_two_outages_wait_for_the_store(database: Database) -> None:
    """The second may be over before the first is written down: both are, with their times."""
    replica = Followed()
    replica.away(0, 20)
    replica.away(60, 0, 30)
    with database.writer.begin() as connection:
        later, earlier = replica.write(connection)

    assert [earlier.alert_id, later.alert_id] == [alert.alert_id for alert in replica.told]
    assert [change.event for change in replica.changes] == ["resolved"] * 2
    between = (later.since - earlier.changed_at) / SECOND
    assert 59 < between < 61


def test_writing_again_changes_nothing(database: Database) -> None:
    """Where the answer to the commit was lost, the same outage is written a second time."""
    replica = Followed()
    replica.away(0, 20)
    with database.writer.begin() as connection:
        [alert] = replica.write(connection, times=2)

    assert (alert.state, len(replica.changes)) == ("resolved", 1)


def test_two_replicas_write_one_alert(database: Database) -> None:
    """Each tells, since neither knows of the other; the second finds the alert of the first, and adds none."""
    one, other = Followed(), Followed()
    for replica in (one, other):
        replica.away(0, LIMIT_S)
    with database.writer.begin() as connection:
        one.write(connection)
        [alert] = other.write(connection)

    assert (alert.alert_id, other.changes) == (one.told[0].alert_id, [])


def silence(starts_at: float, ends_at: float) -> Silence:
    """A silence of the rule, between seconds."""
    matcher = Matcher(rule="store_unreachable")
    return Silence(
        "s", matcher, Micros(round(starts_at * SECOND)), Micros(round(ends_at * SECOND)), "work", None, Micros(0)
    )


@pytest.mark.parametrize(("ends_at", "tells"), [(600.0, 0), (5.0, 1)])
def test_planned_work_is_not_told(database: Database, ends_at: float, tells: int) -> None:
    """What was silenced before the store went away is not told, neither its begin nor its end, and is written down."""
    replica = Followed(silences=[silence(0, ends_at)])
    replica.away(0, 20)
    with database.writer.begin() as connection:
        [alert] = replica.write(connection)

    assert (len(replica.told), len(replica.changes), alert.state) == (tells, tells, "resolved")


def test_the_rule_may_be_changed_or_off(database: Database) -> None:
    """The configured severity is told; with the rule off there is nothing to tell and nothing to write."""
    for rule, severities in (({"severity": "high"}, ["high"]), ({"enabled": False}, [])):
        chosen = Config.model_validate({"alerts": {"rules": ["default", {"name": "store_unreachable", **rule}]}})
        replica = Followed(RuleSet.of(chosen.alerts.rules))
        replica.away(0, 20)

        assert [alert.finding.severity for alert in replica.told] == severities
    with database.writer.begin() as connection:
        assert replica.write(connection) == []


def test_an_alert_of_another_outage_stays(database: Database) -> None:
    """A second outage is another alert; the first one stays as it was."""
    replica = Followed()
    with database.writer.begin() as connection:
        for _ in range(2):
            replica.away(0, 20)
            shown = replica.write(connection)
            earlier = database_now(connection) - 3600 * SECOND
            for alert in shown:
                times = replace(alert, since=Micros(earlier), changed_at=Micros(earlier + SECOND))
                connection.exec_driver_sql(
                    f"UPDATE alerts SET since = {times.since}, changed_at = {times.changed_at}"  # noqa: S608 - our own numbers
                )

    assert [alert.state for alert in shown] == ["resolved"] * 2
    assert {alert.alert_id for alert in shown} == {alert.alert_id for alert in replica.told}
