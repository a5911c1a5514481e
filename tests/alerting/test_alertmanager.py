"""What an Alertmanager is sent, out of a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from app.alerting.alertmanager import Alertmanager, AlertmanagerFeed
from app.alerting.message import Pages
from app.alerting.notify import Route
from app.alerting.playbook import Playbook
from app.alerting.telling import Telling
from app.store import outbox, reports, silences
from app.store.alerts import SEVERITIES, Finding
from app.store.engine import open_database
from app.store.migrate import upgrade
from app.store.readers import Readers
from app.store.silences import Matcher, Silence
from app.store.transitions import Change, record
from app.types import SECOND, Json, Micros, Report, Severity
from tests.alerting.delivering import Clock, channel_to
from tests.receivers import Webhook, webhook

PAGES = Pages("http://service", Playbook(""))
MINUTE = 60.0


def finding(severity: Severity = "critical") -> Finding:
    """A rule that holds."""
    return Finding(severity, 0.8, 0.9, "accuracy fell")


class Desk:
    """Records alerts in a store, at a time that the test moves, and lets a feed or a teller read it."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.database = open_database(url)
        upgrade(self.database.writer)
        self._reports = 0

    def record(self, found: Finding | None, act: Callable[[Connection, Sequence[Change]], None] | None = None) -> None:
        """A report in which the rule holds, or does not."""
        self._reports += 1
        report = Report(f"r{self._reports}", "performance", "m", "1", self.clock.now, "ok", {})
        with self.database.writer.begin() as connection:
            reports.save(connection, report)
            changes = record(connection, report, {"accuracy_drop": found}, {})
            if act:
                act(connection, changes)

    def sent(self, receiver: Webhook, severities: Sequence[Severity] = SEVERITIES) -> list[Json]:
        """The alerts that a turn of a feed sends."""
        receiver.taken.clear()

        async def turn() -> None:
            readers = Readers(self.database.readers)
            channel = Alertmanager("manager", f"http://127.0.0.1:{receiver.port}/")
            feed = AlertmanagerFeed(channel, frozenset(severities), readers, PAGES, clock=self.clock)
            await feed.turn()
            await asyncio.to_thread(readers.close)

        asyncio.run(turn())
        return [alert for body in receiver.taken for alert in body]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty store."""
    return Desk(f"sqlite:///{tmp_path / 'store.db'}")


def test_what_fires_is_sent_again_and_its_end_for_five_minutes(desk: Desk) -> None:
    """A firing alert lasts four minutes beyond each message; a resolved one is sent with its end, then forgotten."""
    with webhook() as receiver:
        assert desk.sent(receiver) == []
        desk.record(finding())
        ends = []
        for _ in range(2):
            [alert] = desk.sent(receiver)
            ends.append(alert["endsAt"])
            desk.clock.forward(MINUTE)
        desk.record(None)
        desk.clock.forward(4 * MINUTE)
        [over] = desk.sent(receiver)
        desk.clock.forward(2 * MINUTE)
        later = desk.sent(receiver)
    desk.database.close()

    assert [end[14:19] for end in ends] == ["17:20", "18:20"]
    assert over["endsAt"][14:19] == "15:20"
    assert over["startsAt"] == alert["startsAt"]
    assert over["labels"] == alert["labels"]
    assert later == []


def test_what_is_silenced_or_not_meant_for_it_is_not_sent(desk: Desk) -> None:
    """Neither an alert under a silence, nor one of another severity; and no alert that nobody was told of."""
    with webhook() as receiver:
        desk.record(finding())
        others = desk.sent(receiver, ["high", "low"])
        silence = Silence("s", Matcher(), desk.clock.now, Micros(desk.clock.now + 3600 * SECOND), "", None, Micros(0))
        with desk.database.writer.begin() as connection:
            silences.add(connection, silence)
        silenced = desk.sent(receiver)
        desk.clock.forward(3601)
        after = desk.sent(receiver)
    desk.database.close()

    assert (others, silenced, len(after)) == ([], [], 1)


def test_who_hears_of_an_alert_that_grows_worse(desk: Desk) -> None:
    """Who is told of critical alerts hears when it turns critical, once, and the end reaches everybody who heard."""
    with webhook() as receiver:
        routes = [
            Route(channel_to(receiver, name), frozenset(severities))
            for name, severities in (("all", SEVERITIES), ("pager", ("critical",)), ("week", ("medium",)))
        ]
    tell = Telling(routes, PAGES)
    for found in (finding("medium"), finding("critical"), finding("medium"), finding("critical"), None):
        desk.record(found, partial(tell, now=desk.clock.now))
        desk.clock.forward(MINUTE)
    heard = []
    with desk.database.writer.begin() as connection:
        for route in routes:
            while message := outbox.claim(connection, route.channel.name, now=desk.clock.now, seconds=1):
                outbox.delivered(connection, message, now=desk.clock.now)
                heard.append((route.channel.name, message.body["title"].split()[0]))
    desk.database.close()

    assert heard == [
        ("all", "[MEDIUM]"),
        ("all", "[CRITICAL]"),
        ("all", "[RESOLVED]"),
        ("pager", "[CRITICAL]"),
        ("pager", "[RESOLVED]"),
        ("week", "[MEDIUM]"),
        ("week", "[RESOLVED]"),
    ]
