"""What an Alertmanager is told, again and again: what fires, and for a while what has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.alerting.alertmanager import Alertmanager, render
from app.alerting.channels import ChannelFailed
from app.alerting.message import Pages
from app.alerting.polling import Polling
from app.alerting.sending import TIMEOUT_S, SendingThread
from app.errors import Unavailable
from app.store import alerts, reports
from app.store.alerts import Alert
from app.store.engine import Connection
from app.store.leases import database_now
from app.store.readers import Readers
from app.store.silences import active
from app.types import SECOND, Json, Micros, Report, Severity

LOOK_S = 2.0
"""How often it is seen whether anything has changed."""
AGAIN_S = 60.0
"""How often everything is sent again."""
RETRY_S = 10.0
"""How soon after a failure."""
LASTS_S = 240.0
"""How long a firing alert lasts without being sent again: three chances may be lost."""
RESOLVED_S = 300.0
"""How long a resolved alert is still sent."""


@dataclass(frozen=True, slots=True)
class Told:
    """An alert as it is sent, and the report behind it."""

    alert: Alert
    report: Report | None


class AlertmanagerFeed(Polling):
    """Sends all that fires to one Alertmanager; each replica does, since equal labels are one alert there.

    What is not sent again ends there. So what was sent before the store went away, or before a silence began, is sent
    on as it was.
    """

    def __init__(
        self,
        channel: Alertmanager,
        severities: frozenset[Severity],
        readers: Readers,
        pages: Pages,
        *,
        clock: Callable[[Connection], Micros] = database_now,
        steady: Callable[[], float] = time.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        super().__init__(channel.name, pause_s=LOOK_S)
        self._thread = SendingThread(channel, timeout_s=timeout_s)
        self._severities = severities
        self._readers = readers
        self._pages = pages
        self._clock = clock
        self._steady = steady
        self._known: Sequence[Told] = ()
        self._ahead = 0.0
        self._sent: Sequence[object] = ()
        self._again_at = 0.0
        self._failing = False

    async def turn(self) -> bool:
        """Send what there is to tell: at once where it has changed, else from time to time."""
        with suppress(Unavailable):  # what was known last still holds
            now, self._known = await self._readers.run(self._read)
            self._ahead = now / SECOND - self._steady()
        state = [(each.alert.alert_id, each.alert.state, each.alert.finding.severity) for each in self._known]
        found = self._render()
        if found and not self._thread.busy and (state != self._sent or self._steady() >= self._again_at):
            self._sent = state
            await self._send(found)
        return False

    async def _send(self, found: Sequence[Json]) -> None:
        try:
            await self._thread.send({"alerts": found})
        except ChannelFailed as failure:
            self._again_at = self._steady() + RETRY_S
            if not self._failing:
                self._log.warning("alertmanager_failed", reason=str(failure))
            self._failing = True
            return
        self._again_at = self._steady() + AGAIN_S
        if self._failing:
            self._log.info("alertmanager_recovered")
        self._failing = False

    def _render(self) -> list[Json]:
        """The alerts in the words of the API; of several with the same labels the latest."""
        ends = Micros(round((self._steady() + self._ahead + LASTS_S) * SECOND))
        rendered = [
            render(each.alert, each.report, self._pages, ends=each.alert.resolved_at or ends)
            for each in self._known
            if each.alert.finding.severity in self._severities
        ]
        return list({tuple(alert["labels"].values()): alert for alert in rendered}.values())

    def _read(self, connection: Connection) -> tuple[Micros, Sequence[Told]]:
        now = self._clock(connection)
        silences = active(connection, at=now)
        before = {each.alert.alert_id: each for each in self._known}
        found = []
        for alert in alerts.told(connection, since=Micros(now - round(RESOLVED_S * SECOND))):
            silenced = alert.is_open and any(silence.covers(alert) for silence in silences)
            known = before.get(alert.alert_id) if silenced else None
            found.append(known or Told(alert, reports.get(connection, alert.report_id)))
        return now, found
