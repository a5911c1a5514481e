"""Messages that cannot wait in the outbox: the store, which holds it, is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from app.alerting.alertmanager import Alertmanager, render
from app.alerting.channels import ChannelFailed
from app.alerting.delivery import pause_s
from app.alerting.feed import AGAIN_S, LASTS_S
from app.alerting.message import Pages, compose
from app.alerting.notify import Route
from app.alerting.sending import SendingThread
from app.store.alerts import Alert
from app.store.outbox import Message
from app.types import SECOND, Json, Micros


class DirectTelling:
    """Sends an alert to every channel that is told of its severity, until it has arrived or has ended.

    Args:
        clock: the wall clock, by which an Alertmanager is told how long the alert lasts.
        again_s: how often an Alertmanager is told again.
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
        """Begin to send, and return at once."""
        for route in self._routes:
            if alert.finding.severity in route.severities:
                task = asyncio.create_task(self._tell(route, alert), name=f"plumbline-direct-{route.channel.name}")
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    def end(self) -> None:
        """Give up what is not sent yet."""
        for task in self._sending:
            task.cancel()

    async def stop(self) -> None:
        """Give up what is not sent yet, and wait until nothing runs."""
        self.end()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _tell(self, route: Route, alert: Alert) -> None:
        thread = SendingThread(route.channel)
        await self._send(thread, route, alert)
        while isinstance(route.channel, Alertmanager):  # it forgets what it does not hear again
            await asyncio.sleep(self._again_s)
            await self._send(thread, route, alert)

    async def _send(self, thread: SendingThread, route: Route, alert: Alert) -> None:
        """Send until it is taken."""
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
