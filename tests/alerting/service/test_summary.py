"""The digest arrives once for each day or week, whichever replica sends it and however often the service starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.alerting.channels.routes import open_channels
from app.alerting.service.summary import Digest, Every, last_period
from app.config.settings import Notify
from app.metrics import JournalMetrics
from app.store.database import Connection, Readers, open_database
from app.store.journal.journal import Journal
from app.store.migrate import upgrade
from app.store.queries import reports
from app.store.queries.outbox import claim
from app.store.queries.replicas import database_now
from app.store.queries.reports import Figure
from app.types import SECOND, Micros, ModelSchema, ServedVersions, Task, to_rfc3339
from tests.support.alerting.deliverer import Clock
from tests.support.application import client_of, make_config
from tests.support.models.tasks import Fitted
from tests.support.receivers import webhook

SCHEMA = ModelSchema("m", "1", Task.BINARY, ())
DAY_S = 86_400.0
CHANNEL = "json://127.0.0.1:1/hook"


class Versions:
    """One version that answers."""

    def served(self) -> ServedVersions:
        """The version."""
        return ServedVersions(SCHEMA, {"1": SCHEMA})


class Bureau:
    """Digests of several replicas over one store, and what they have stored for the channel."""

    def __init__(self, journal: Journal, readers: Readers, clock: Clock) -> None:
        self.journal, self.readers, self.clock = journal, readers, clock
        self.routes = open_channels([Notify.model_validate(CHANNEL)])

    def replica(self, every: Every | None) -> Digest:
        """A replica that has just started."""
        versions = Versions()
        return Digest(every, self.routes, "http://x", versions, self.journal, self.readers, clock=self.clock)

    async def messages(self) -> list[dict[str, str]]:
        """The messages that wait, which are taken."""
        channel, now, found = self.routes[0].channel.name, self.clock.now, []
        while message := await self.journal.run(
            lambda connection: claim(connection, channel, now=now, seconds=30 * DAY_S)
        ):
            found.append(dict(message.body))
        return found


@asynccontextmanager
async def bureau(folder: Path) -> AsyncIterator[Bureau]:
    """Over a store of its own."""
    database = open_database(f"sqlite:///{folder / 'digest.db'}")
    upgrade(database.writer)
    journal, readers = Journal(database, JournalMetrics(CollectorRegistry()), max_rows=100), Readers(database.readers)
    journal.start()
    try:
        yield Bureau(journal, readers, Clock())
    finally:
        await journal.close()
        readers.close()
        database.close()


@pytest.mark.parametrize("every", ["daily", "weekly"])
def test_one_digest_for_each_period(tmp_path: Path, every: Every) -> None:
    """Two replicas and many restarts send one message for each day or week that ended while the service was known."""

    async def scenario() -> None:
        days = {"daily": 1, "weekly": 7}[every]
        async with bureau(tmp_path) as office:
            titles = []
            for _ in range(3 * days + 1):
                for _ in range(2):
                    for replica in (office.replica(every), office.replica(every)):
                        await replica.run()
                        await replica.run()
                titles.append([message["title"] for message in await office.messages()])
                office.clock.forward(DAY_S)
            told = [title for some in titles for title in some]

            assert len(told) == len(set(told)) == 3
            assert titles[0] == []  # of the time before it was there, the service knows nothing

    asyncio.run(scenario())


def test_a_digest_that_was_due_while_nobody_ran(tmp_path: Path) -> None:
    """After weeks without the service, the digest of the last whole week is sent, and no other."""

    async def scenario() -> None:
        async with bureau(tmp_path) as office:
            await office.replica("weekly").run()
            office.clock.forward(30 * DAY_S)
            await office.replica("weekly").run()
            start, end = last_period(office.clock.now, "weekly")
            day = to_rfc3339(start)[:10]

            assert [message["title"] for message in await office.messages()] == [
                f"[DIGEST] m 1: {day} 08:00 to {to_rfc3339(end)[:10]} 08:00 UTC"
            ]

    asyncio.run(scenario())


def test_no_digest_unless_asked_for(tmp_path: Path) -> None:
    """``alerts.digest: off`` sends none, and neither does a service without channels."""

    async def scenario() -> None:
        async with bureau(tmp_path) as office:
            alone = Digest("daily", (), "http://x", Versions(), office.journal, office.readers, clock=office.clock)
            for _ in range(3):
                await office.replica(None).run()
                await alone.run()
                office.clock.forward(DAY_S)

            assert await office.messages() == []

    asyncio.run(scenario())


def test_a_digest_arrives_with_the_figures(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """A receiver gets the figures of yesterday that ``GET /summary`` has: requests, metrics and drifted features."""

    def yesterday(connection: Connection) -> Micros:
        now = database_now(connection)  # which the channel's own clock is
        end = last_period(now, "daily")[1]
        found = {
            "requests.answered": Figure(990, 5.0, 0.0, 0.25),
            "requests.failed": Figure(10),
            "latency.0.005": Figure(980),
            "latency.0.25": Figure(10),
            "realised.accuracy": Figure.of(0.9).plus(Figure.of(0.8)),
            "drift.income": Figure(3),
        }
        reports.add_figures(connection, "text", "1", found, at=Micros(end - 3600 * SECOND))
        reports.add_figures(connection, "text", "1", {"requests.failed": Figure(7)}, at=end)  # of the next day
        return now

    with webhook() as receiver:
        alerts = {"notify": [receiver.url], "digest": "daily"}
        with client_of(make_config(tmp_path, small_models[0], "text", alerts=alerts)) as client:
            services, clock = client.services, Clock()
            clock.now = client.wait_for(lambda: services.journal.run(yesterday))
            routes = open_channels(services.config.alerts.notify)

            class Active:
                def served(self) -> ServedVersions:
                    return ServedVersions(services.registry.active.schema, {})

            async def two_days() -> None:
                digest = Digest("daily", routes, "http://x", Active(), services.journal, services.readers, clock=clock)
                clock.forward(-DAY_S)
                await digest.run()
                clock.forward(DAY_S)
                await digest.run()

            client.wait_for(two_days)
            receiver.wait_for(1)
    text = receiver.taken[0]["message"]

    assert receiver.titles[0].startswith("[DIGEST] text 1: ")
    for line in (
        "Requests: 1,000, answered: 99.00%",
        "max 0.25 s",
        "Answered within 0.5 s: 100.00%",
        "accuracy: average 0.85, min 0.8, max 0.9, last 0.8",
        "Alerts: none",
        "Drifted features: income",
    ):
        assert line in text
