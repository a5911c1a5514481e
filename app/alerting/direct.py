"""Messages that cannot wait in the outbox: the store, which holds it, is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from app.alerting.alertmanager import render
from app.alerting.channels import ChannelFailed
from app.alerting.delivery import pause_s
from app.alerting.message import Pages, compose
from app.alerting.notify import Route
from app.alerting.sending import SendingThread
from app.store.alerts import Alert
from app.store.outbox import Message
from app.types import SECOND, Json, Micros

MOST_TRIES = 10
"""Tries within about an hour; by then the process has said it in its log and metrics for as long."""
LASTS_S = 3600.0
"""How long an Alertmanager shows it, from its begin, without hearing its end."""


class DirectTelling:
    """Sends an alert to every channel that is told of its severity; what is not sent when the process ends is lost."""

    def __init__(self, routes: Sequence[Route], pages: Pages, *, pause: Callable[[Message], float] = pause_s) -> None:
        self._routes = routes
        self._pages = pages
        self._pause = pause
        self._sending: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger("delivery")

    def __call__(self, alert: Alert) -> None:
        """Begin to send, and return at once."""
        ends = Micros(alert.since + round(LASTS_S * SECOND))
        body = compose("firing", alert, None, self._pages)
        body["alerts"] = [render(alert, None, self._pages, ends=ends)]
        for route in self._routes:
            if alert.finding.severity in route.severities:
                task = asyncio.create_task(self._send(route, body), name=f"plumbline-direct-{route.channel.name}")
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)

    async def stop(self) -> None:
        """Give up what is not sent yet."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _send(self, route: Route, body: Json) -> None:
        thread = SendingThread(route.channel)
        log = self._log.bind(channel=route.channel.name, message=body["key"])
        for tries in range(1, MOST_TRIES + 1):
            try:
                if not thread.busy:
                    await thread.send(body)
                    log.info("message_delivered", tries=tries)
                    return
            except ChannelFailed as failure:
                log.warning("message_put_off", tries=tries, reason=str(failure))
            message = Message(body["key"], route.channel.name, "firing", {}, Micros(0), tries)
            await asyncio.sleep(self._pause(message))
