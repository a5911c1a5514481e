"""Delivery of the outbox through the channels, with retries, expiry and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from zlib import crc32

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.alerting.channels.alertmanager import AGAIN_S, LASTS_S, Alertmanager, AlertmanagerFeed, render
from app.alerting.channels.base import TIMEOUT_S, Channel, ChannelFailed, SendingThread
from app.alerting.channels.routes import Route, alertmanagers, outbox_routes
from app.alerting.messages import Pages, compose
from app.alerting.rules.configured import RuleSet
from app.background import AT_ONCE, PeriodicTask, start_work
from app.errors import Unavailable
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.journal.writer import Result
from app.store.queries import outbox
from app.store.queries.alerts import Alert
from app.store.queries.outbox import Message
from app.store.queries.replicas import database_now
from app.types import SECOND, Json, Micros, ModelSchema


class FiringAlerts(Collector):
    """``ml_alerts_firing``: 1 for a rule that fires, else 0; a scrape first sets ``firing``."""

    def __init__(self, schema: ModelSchema, rules: RuleSet) -> None:
        self.schema = schema
        self._rules = rules
        self.firing: Sequence[Alert] = ()

    def collect(self) -> Iterator[Metric]:
        """Yield a sample for each rule with its severity, and one with the severity of its alert."""
        family = GaugeMetricFamily(
            "ml_alerts_firing", "1 while the rule fires", labels=["model_name", "model_version", "rule", "severity"]
        )
        samples = dict.fromkeys(self._rules.severities(self.schema.task), 0.0)
        samples |= {(alert.rule, alert.finding.severity): 1.0 for alert in self.firing}
        for (rule, severity), value in samples.items():
            family.add_metric([self.schema.name, self.schema.version, rule, severity], value)
        yield family


class DeliveryMetrics:
    """Counts of messages over all channels; ``/metrics`` must not show the name of a channel."""

    def __init__(self, registry: CollectorRegistry) -> None:
        deliveries = Counter(
            "ml_alert_deliveries",
            "Messages delivered, tries that failed, messages given up",
            ["result"],
            registry=registry,
        )
        self.delivered, self.retried, self.expired = map(deliveries.labels, ("delivered", "retried", "expired"))
        self.rows = Gauge("ml_alert_outbox_rows", "Messages that wait to be delivered", registry=registry)


POLL_S = 2.0
"""Time between two looks at the outbox, for messages that another replica has stored."""
MARGIN_S = 30.0
"""A claim lasts for the time-out of a message and so much longer."""
MIN_RETRY_PAUSE_S, MAX_RETRY_PAUSE_S = 5.0, 900.0
EXPIRY_S = 86_400.0
"""An older message is given up; the alert itself stays at ``/alerts``."""


def pause_s(message: Message, asked_s: float | None = None) -> float:
    """The seconds until the next try: 5, doubled each time up to 900; or as the channel asks.

    They vary by a quarter. The variation is a hash of the message, so that messages that failed together are not tried
    again together.

    >>> message = Message("a/firing/x", "x", "firing", {}, Micros(0), tries=1)
    >>> round(pause_s(message), 1), pause_s(message, asked_s=120.0)
    (6.2, 120.0)
    """
    jitter = 0.75 + 0.5 * crc32(f"{message.outbox_id}/{message.tries}".encode()) / 2**32
    pause = min(MIN_RETRY_PAUSE_S * 2.0 ** min(message.tries - 1, 10), MAX_RETRY_PAUSE_S) * jitter
    return max(pause, min(asked_s or 0.0, EXPIRY_S))


class Deliverer:
    """Delivers the messages of one channel from the outbox; other replicas do the same.

    Args:
        clock: the database's clock, by which messages are due.
        ticks: a clock that never jumps, by which a channel hangs.
    """

    def __init__(
        self,
        channel: Channel,
        journal: Journal,
        readers: Readers,
        metrics: DeliveryMetrics,
        *,
        clock: Callable[[Connection], Micros] = database_now,
        ticks: Callable[[], float] = time.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._name = channel.name
        self._log = structlog.get_logger("delivery").bind(channel=channel.name)
        self.task = PeriodicTask("delivery", self.turn, interval_s=POLL_S, store_away="wait", log=self._log)
        self._thread = SendingThread(channel, timeout_s=timeout_s, clock=ticks)
        self._claim_s = timeout_s + MARGIN_S
        self._journal = journal
        self._readers = readers
        self._metrics = metrics
        self._clock = clock

    async def turn(self) -> float | None:
        """Deliver one message; ``AT_ONCE`` where there may be another one.

        Raises:
            Unavailable: the store cannot be reached.
        """
        due, waiting = await self._readers.run(self._look)
        self._metrics.rows.set(waiting)
        if not due or self._thread.busy:
            return None
        message, expired = await self._journal.run(self.claim)
        if expired:
            self._metrics.expired.inc(expired)
            self._log.error("messages_expired", messages=expired, after_s=EXPIRY_S)
        return AT_ONCE if message is not None and await self._deliver(message) else None

    async def _deliver(self, message: Message) -> bool:
        """Send a message and store what became of it; False where the channel did not take it."""
        about = {"message": message.outbox_id, "tries": message.tries}
        try:
            await self._thread.send(message.body)
        except ChannelFailed as failure:
            await self._store(partial(self._put_off, message, failure))
            self._metrics.retried.inc()
            self._log.warning("message_put_off", **about, reason=str(failure))
            return False
        await self._store(partial(self._delivered, message))
        self._metrics.delivered.inc()
        self._log.info("message_delivered", **about)
        return True

    def _look(self, connection: Connection) -> tuple[bool, int]:
        now = self._clock(connection)
        since = Micros(now - round(EXPIRY_S * SECOND))
        return outbox.is_due(connection, self._name, now=now), outbox.count_waiting(connection, since=since)

    def claim(self, connection: Connection) -> tuple[Message | None, int]:
        """Claim the next message and count the expired ones; a begin whose end waits too is dropped."""
        now = self._clock(connection)
        expired = outbox.expire(connection, self._name, before=Micros(now - round(EXPIRY_S * SECOND)), now=now)
        outbox.supersede(connection, self._name, now=now)
        return outbox.claim(connection, self._name, now=now, seconds=self._claim_s), expired

    def _delivered(self, message: Message, connection: Connection) -> None:
        outbox.delivered(connection, message, now=self._clock(connection))

    def _put_off(self, message: Message, failure: ChannelFailed, connection: Connection) -> None:
        now, asked_s = self._clock(connection), failure.retry_after_s
        until = Micros(now + round(pause_s(message, asked_s) * SECOND))
        outbox.put_off(connection, message, until=until, error=str(failure))
        if asked_s is not None:
            outbox.rest(connection, self._name, until=Micros(now + round(min(asked_s, EXPIRY_S) * SECOND)))

    async def _store(self, act: Callable[[Connection], Result]) -> Result:
        """Store the result of a delivery; while the store is away, try again until it is back."""
        while True:
            try:
                return await self._journal.run(act)
            except Unavailable:
                await asyncio.sleep(POLL_S)


class DirectNotifier:
    """Sends an alert to the channels without the store, until it has arrived or has ended.

    Args:
        clock: the wall clock, from which the end of an alert for an Alertmanager is computed.
        again_s: how often the alert is sent again to an Alertmanager.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        pages: Pages,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[Message], float] = pause_s,
        again_s: float = AGAIN_S,
    ) -> None:
        self._routes = routes
        self._pages = pages
        self._clock = clock
        self._pause = pause
        self._again_s = again_s
        self._sending: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("delivery")

    def begin(self, alert: Alert) -> None:
        """Begin to send to every channel that gets alerts of this severity, and return at once."""
        for route in self._routes:
            if alert.finding.severity in route.severities:
                task = start_work("direct-delivery", self._notify(route, alert))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    def end(self) -> None:
        """Cancel what is not sent yet."""
        for task in self._sending:
            task.cancel()

    async def stop(self) -> None:
        """Cancel what is not sent yet, and wait until nothing runs."""
        self.end()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _notify(self, route: Route, alert: Alert) -> None:
        thread = SendingThread(route.channel)
        await self._send(thread, route, alert)
        while isinstance(route.channel, Alertmanager):  # it forgets an alert that is not sent again
            await asyncio.sleep(self._again_s)
            await self._send(thread, route, alert)

    async def _send(self, thread: SendingThread, route: Route, alert: Alert) -> None:
        """Send until the channel takes it."""
        tries = 0
        while True:
            tries += 1
            body = self._body(alert)
            log = self._log.bind(channel=route.channel.name, message=body["key"], tries=tries)
            try:
                if not thread.busy:
                    await thread.send(body)
                    log.info("message_delivered")
                    return
            except ChannelFailed as failure:
                log.warning("message_put_off", reason=str(failure))
            message = Message(body["key"], route.channel.name, "firing", {}, Micros(0), tries)
            await asyncio.sleep(self._pause(message))

    def _body(self, alert: Alert) -> Json:
        ends = Micros(round((self._clock() + LASTS_S) * SECOND))
        return compose("firing", alert, None, self._pages) | {"alerts": [render(alert, None, self._pages, ends=ends)]}


class Delivery:
    """The tasks of all channels."""

    def __init__(self, tasks: Sequence[PeriodicTask]) -> None:
        self.tasks = tasks

    def start(self) -> None:
        """Start all."""
        for task in self.tasks:
            task.start()

    async def wake(self) -> None:
        """Let all look for messages now."""
        for task in self.tasks:
            task.wake()

    async def stop(self) -> None:
        """Stop all at the same time."""
        await asyncio.gather(*(task.stop() for task in self.tasks))


def set_up_delivery(
    routes: Sequence[Route],
    pages: Pages,
    journal: Journal,
    readers: Readers,
    series: CollectorRegistry,
    *,
    more: Sequence[Channel] = (),
) -> Delivery:
    """Set up a task for each route, and for each further channel with messages in the outbox."""
    metrics = DeliveryMetrics(series)
    channels = [*(route.channel for route in outbox_routes(routes)), *more]
    return Delivery(
        [
            *(Deliverer(channel, journal, readers, metrics).task for channel in channels),
            *(
                AlertmanagerFeed(channel, severities, readers, pages).task
                for channel, severities in alertmanagers(routes)
            ),
        ]
    )
