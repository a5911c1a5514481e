"""A channel's deliverer over a real store, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry

from app.alerting.channels.apprise import AppriseChannel
from app.alerting.channels.base import Channel
from app.alerting.delivery import Deliverer, DeliveryMetrics
from app.background import AT_ONCE
from app.metrics import JournalMetrics
from app.store.database import Connection, Readers, open_database
from app.store.journal.journal import Journal
from app.store.migrate import upgrade
from app.store.queries import outbox
from app.types import SECOND, Micros
from tests.support.receivers import Webhook


class Clock:
    """The time, as long as nobody moves it."""

    def __init__(self) -> None:
        self.now = Micros(1_790_000_000 * SECOND)

    def __call__(self, _connection: Connection) -> Micros:
        """What the deliverer takes for the database's clock."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now = Micros(self.now + round(seconds * SECOND))


class Office:
    """A deliverer and what it works with."""

    def __init__(self, channel: Channel, journal: Journal, readers: Readers, clock: Clock, timeout_s: float) -> None:
        self.series = CollectorRegistry()
        self.clock = clock
        self.journal = journal
        self.readers = readers
        self._name = channel.name
        self.deliverer = Deliverer(
            channel,
            journal,
            readers,
            DeliveryMetrics(self.series),
            clock=clock,
            ticks=lambda: 0.0,  # no message is given up
            timeout_s=timeout_s,
        )

    async def put(self, alert: str, event: str = "firing") -> None:
        """Store a message of an alert."""
        body = {"title": f"{event} {alert}", "text": "what it says", "kind": "failure", "key": alert}
        act = partial(
            outbox.enqueue,
            channel=self._name,
            event=event,
            key=alert,
            body=body,
            alert_id=alert,
            now=self.clock.now,
        )
        await self.journal.run(act)

    async def live(self, seconds: float, *, step_s: float = 2.0) -> None:
        """Let so much time pass in steps, and the deliverer take its turns."""
        for _ in range(round(seconds / step_s)):
            while await self.deliverer.turn() == AT_ONCE:
                pass
            self.clock.forward(step_s)

    def results(self) -> dict[str, float]:
        """``ml_alert_deliveries_total`` by result."""
        return {
            name: self.series.get_sample_value("ml_alert_deliveries_total", {"result": name}) or 0.0
            for name in ("delivered", "retried", "expired")
        }


def channel_to(receiver: Webhook, name: str = "json-test") -> AppriseChannel:
    """The channel of a webhook."""
    return AppriseChannel(name, receiver.url)


@asynccontextmanager
async def office(
    url: str, channel: Channel, *, clock: Clock | None = None, timeout_s: float = 60.0
) -> AsyncIterator[Office]:
    """A deliverer whose turns the test takes itself."""
    database = open_database(url)
    upgrade(database.writer)
    journal = Journal(database, JournalMetrics(CollectorRegistry()), max_rows=1000)
    readers = Readers(database.readers)
    journal.start()
    try:
        yield Office(channel, journal, readers, clock or Clock(), timeout_s)
    finally:
        await journal.close()
        await asyncio.to_thread(readers.close)
        database.close()
