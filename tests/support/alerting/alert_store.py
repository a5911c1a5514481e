"""Alerts in a real store, at a time that the test moves, and who is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.alerting.channels.alertmanager import Alertmanager, AlertmanagerFeed
from app.alerting.channels.routes import Route
from app.alerting.evaluation import Notifier
from app.alerting.messages import Pages, Playbook
from app.store.database import Readers, open_database
from app.store.migrate import upgrade
from app.store.queries import alerts, outbox, reports
from app.store.queries.alerts import SEVERITIES, Finding, Matcher, Silence, firing_unsilenced, record
from app.types import SECOND, Json, Micros, Report, Severity
from tests.support.alerting.deliverer import Clock
from tests.support.receivers import Webhook
from tests.support.rows import EMPTY_BODY

PAGES = Pages("http://service", Playbook(""))
MINUTE = 60.0


def finding(severity: Severity = "critical") -> Finding:
    """A rule that holds."""
    return Finding(severity, 0.8, 0.9, "accuracy fell")


class Desk:
    """Records reports on one version, tells routes of them, and reads what was told."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.file = folder / "store.db"
        self.database = open_database(f"sqlite:///{self.file}")
        upgrade(self.database.writer)
        self._reports = 0

    def record(self, *found: Finding | None, routes: Sequence[Route] = ()) -> None:
        """A report a minute in which the rule holds, or does not."""
        for each in found:
            self._reports += 1
            report = Report(f"r{self._reports}", "performance", "m", "1", self.clock.now, "ok", EMPTY_BODY)
            with self.database.writer.begin() as connection:
                reports.save(connection, report)
                changes = record(connection, report, {"accuracy_drop": each}, {})
                Notifier(routes, PAGES).enqueue(connection, changes, now=self.clock.now)
            self.catch_up(routes)
            self.clock.forward(MINUTE)

    def catch_up(self, routes: Sequence[Route]) -> None:
        """Tell routes of what fires and they have not heard of."""
        with self.database.writer.begin() as connection:
            changes = firing_unsilenced(connection, "m", "1", now=self.clock.now)
            Notifier(routes, PAGES).enqueue(connection, changes, now=self.clock.now)

    def silence(self, minutes: float) -> None:
        """Silence everything from now on."""
        ends = Micros(self.clock.now + round(minutes * MINUTE * SECOND))
        with self.database.writer.begin() as connection:
            alerts.add_silence(connection, Silence("s", Matcher(), self.clock.now, ends, "", None, Micros(0)))

    def heard(self, route: Route) -> list[str]:
        """The first word of each message that waits for a route, which takes them all."""
        words = []
        with self.database.writer.begin() as connection:
            while message := outbox.claim(connection, route.channel.name, now=self.clock.now, seconds=1):
                outbox.delivered(connection, message, now=self.clock.now)
                words.append(message.body["title"].split()[0])
        return words


class Feed:
    """A feed whose turns the test takes itself."""

    def __init__(self, feed: AlertmanagerFeed, receiver: Webhook, runner: asyncio.Runner) -> None:
        self._feed = feed
        self._receiver = receiver
        self._runner = runner

    def sent(self) -> list[Json]:
        """The alerts that the next turn sends."""
        self._receiver.taken.clear()
        self._runner.run(self._feed.turn())
        return [alert for body in self._receiver.taken for alert in body]

    def severities(self) -> list[str]:
        """The severities of the alerts that the next turn sends."""
        return [alert["labels"]["severity"] for alert in self.sent()]


@contextmanager
def feeding(desk: Desk, receiver: Webhook, severities: Sequence[Severity] = SEVERITIES) -> Iterator[Feed]:
    """A feed of what the desk records, which takes the receiver for an Alertmanager."""
    readers = Readers(desk.database.readers)
    channel = Alertmanager("manager", f"http://127.0.0.1:{receiver.port}/")
    feed = AlertmanagerFeed(
        channel, frozenset(severities), readers, PAGES, clock=desk.clock, steady=lambda: desk.clock.now / SECOND
    )
    with asyncio.Runner() as runner:
        yield Feed(feed, receiver, runner)
    readers.close()
