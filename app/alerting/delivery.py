"""Delivery: a task for each channel takes its messages out of the outbox and sends them, at least once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from zlib import crc32

from app.alerting.channels import Channel, ChannelFailed
from app.alerting.exported import DeliveryMetrics
from app.alerting.polling import Polling
from app.alerting.sending import TIMEOUT_S, SendingThread
from app.errors import Unavailable
from app.store import outbox
from app.store.engine import Connection
from app.store.journal import Journal
from app.store.leases import database_now
from app.store.outbox import Message
from app.store.readers import Readers
from app.store.writer import Result
from app.types import SECOND, Micros

POLL_S = 2.0
"""How long a message may wait that another replica stored."""
MARGIN_S = 30.0
"""How much longer than it takes to send a message it is claimed; then another replica may have it."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 900.0
EXPIRY_S = 86_400.0
"""A message older than this helps nobody; the alert itself stands at ``/alerts``."""


def pause_s(message: Message, asked_s: float | None = None) -> float:
    """How long to wait after a failed try: 5 s, doubled each time up to 15 min, a quarter more or less; or as asked.

    The share is a hash of the message, so that what failed together is not tried again together.

    >>> message = Message("a/firing/x", "x", "firing", {}, Micros(0), tries=1)
    >>> round(pause_s(message), 1), pause_s(message, asked_s=120.0)
    (3.9, 120.0)
    """
    jitter = 0.75 + 0.5 * crc32(f"{message.outbox_id}/{message.tries}".encode()) / 2**32
    pause = min(FIRST_PAUSE_S * 2.0 ** min(message.tries - 1, 10), LONGEST_PAUSE_S) * jitter
    return max(pause, min(asked_s or 0.0, EXPIRY_S))


class Deliverer(Polling):
    """Delivers the messages of one channel, beside those of the other replicas."""

    def __init__(
        self,
        channel: Channel,
        journal: Journal,
        readers: Readers,
        metrics: DeliveryMetrics,
        *,
        clock: Callable[[Connection], Micros] = database_now,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        super().__init__(channel.name, pause_s=POLL_S)
        self._thread = SendingThread(channel, timeout_s=timeout_s)
        self._claim_s = timeout_s + MARGIN_S
        self._journal = journal
        self._readers = readers
        self._metrics = metrics
        self._clock = clock

    async def turn(self) -> bool:
        """Deliver one message; True: there may be another one.

        Raises:
            Unavailable: the store cannot be reached.
        """
        due, waiting = await self._readers.run(self._look)
        self._metrics.rows.set(waiting)
        if not due or self._thread.busy:
            return False
        message, expired = await self._journal.run(self._claim)
        if expired:
            self._metrics.expired.inc(expired)
            self._log.error("messages_expired", messages=expired, after_s=EXPIRY_S)
        return message is not None and await self._deliver(message)

    async def _deliver(self, message: Message) -> bool:
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

    def _claim(self, connection: Connection) -> tuple[Message | None, int]:
        """The next message, after those are dropped whose alert is over, and those given up, which are counted."""
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
        """Store what became of a message, also when the store comes back only later: it is known nowhere else."""
        while True:
            try:
                return await self._journal.run(act)
            except Unavailable:
                await asyncio.sleep(POLL_S)
