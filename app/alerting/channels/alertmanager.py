"""Alertmanager: alerts in its format, and the feed that repeats them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import structlog

from app.alerting.channels.base import TIMEOUT_S, ChannelFailed, SendingThread
from app.alerting.messages import Pages, describe
from app.background import PeriodicTask
from app.errors import Unavailable
from app.store.database import Connection, Readers
from app.store.queries import alerts, reports
from app.store.queries.alerts import Alert, active_silences
from app.store.queries.replicas import database_now
from app.types import SECOND, Json, Micros, Report, Severity, to_rfc3339

PREFIX = "alertmanager+"
"""Before the URL of an Alertmanager."""


class Alertmanager:
    """The API v2 behind a base URL."""

    schemes: ClassVar = (PREFIX,)

    @classmethod
    def open(cls, name: str, url: str) -> Alertmanager:
        """Open the Alertmanager behind ``alertmanager+http(s)://…``.

        Raises:
            ValueError: the URL is wrong.
        """
        return cls(name, url[len(PREFIX) :])

    def __init__(self, name: str, url: str) -> None:
        from httpx import URL, InvalidURL

        try:
            parsed = URL(url)
        except InvalidURL:
            parsed = URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("an Alertmanager is alertmanager+http://HOST:9093 or alertmanager+https://HOST")
        self.name = name
        self._address = f"{url.rstrip('/')}/api/v2/alerts"

    def send(self, body: Json, *, timeout_s: float) -> None:
        """Post ``alerts``; the answer's body is not read."""
        import httpx

        try:
            with httpx.stream("POST", self._address, json=body["alerts"], timeout=timeout_s) as answer:
                pass
        except httpx.HTTPError as error:
            raise ChannelFailed(f"not reached: {type(error).__name__}") from None
        if not answer.is_success:
            raise ChannelFailed(f"answered {answer.status_code}")


def render(alert: Alert, report: Report | None, pages: Pages, *, ends: Micros) -> Json:
    """An alert as the API takes it; its labels are its identity there."""
    return {
        "labels": {
            "alertname": alert.rule,
            "severity": alert.finding.severity,
            "model_name": alert.model_name,
            "model_version": alert.model_version,
            "service": "plumbline",
        },
        "annotations": {
            "summary": alert.finding.message,
            "description": "\n".join(describe(alert, report, pages)),
            "playbook": pages.section(alert.rule),
            "report": pages.report(alert.report_id) if report else pages.address,
        },
        "startsAt": to_rfc3339(alert.since),
        "endsAt": to_rfc3339(ends),
        "generatorURL": pages.alert(alert),
    }


LOOK_S = 2.0
"""Time between two looks whether an alert has changed."""
AGAIN_S = 60.0
"""Time until all alerts are sent again."""
RETRY_S = 10.0
"""Time until the next try after a failure."""
LASTS_S = 240.0
"""How long a firing alert lasts without being sent again: three messages may be lost."""
RESOLVED_S = 300.0
"""How long a resolved alert is still sent."""


@dataclass(frozen=True, slots=True)
class SentAlert:
    """An alert as it is sent, and the report behind it."""

    alert: Alert
    report: Report | None


class AlertmanagerFeed:
    """Sends all firing alerts to one Alertmanager.

    Each replica does so, and the Alertmanager merges alerts with equal labels. An alert that is not sent again ends
    there. So an alert that was sent before the store went away, or before a silence began, is sent again as it was.
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
        log = structlog.get_logger("delivery").bind(channel=channel.name)
        self.task = PeriodicTask("alertmanager", self.turn, interval_s=LOOK_S, store_away="wait", log=log)
        self._log = log
        self._thread = SendingThread(channel, timeout_s=timeout_s)
        self._severities = severities
        self._readers = readers
        self._pages = pages
        self._clock = clock
        self._steady = steady
        self._known: Sequence[SentAlert] = ()
        self._ahead = 0.0
        self._sent: Sequence[object] = ()
        self._again_at = 0.0
        self._failing = False

    async def turn(self) -> None:
        """Send the alerts: at once where one has changed, else from time to time."""
        with suppress(Unavailable):  # the alerts that were read last are sent again
            now, self._known = await self._readers.run(self._read)
            self._ahead = now / SECOND - self._steady()
        state = [(each.alert.alert_id, each.alert.state, each.alert.finding.severity) for each in self._known]
        found = self._render()
        if found and not self._thread.busy and (state != self._sent or self._steady() >= self._again_at):
            self._sent = state
            await self._send(found)

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
        """The alerts as the API takes them; of several with the same labels the latest."""
        ends = Micros(round((self._steady() + self._ahead + LASTS_S) * SECOND))
        rendered = [
            render(each.alert, each.report, self._pages, ends=each.alert.resolved_at or ends)
            for each in self._known
            if each.alert.finding.severity in self._severities
        ]
        return list({tuple(alert["labels"].values()): alert for alert in rendered}.values())

    def _read(self, connection: Connection) -> tuple[Micros, Sequence[SentAlert]]:
        now = self._clock(connection)
        silences = active_silences(connection, at=now)
        before = {each.alert.alert_id: each for each in self._known}
        found = []
        for alert in alerts.told(connection, since=Micros(now - round(RESOLVED_S * SECOND))):
            silenced = alert.is_open and any(silence.covers(alert) for silence in silences)
            known = before.get(alert.alert_id) if silenced else None
            found.append(known or SentAlert(alert, reports.get(connection, alert.report_id)))
        return now, found
