"""An Alertmanager: told again and again what fires, and of an end for a while; grouping and repeating are its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.alerting.channels import ChannelFailed
from app.alerting.message import Pages, describe
from app.alerting.polling import Polling
from app.alerting.sending import TIMEOUT_S, SendingThread
from app.store import alerts, reports
from app.store.alerts import Alert
from app.store.engine import Connection
from app.store.leases import database_now
from app.store.readers import Readers
from app.store.silences import active
from app.types import SECOND, Json, Micros, Report, Severity, to_rfc3339

AGAIN_S = 60.0
"""How often everything is sent again."""
LASTS_S = 240.0
"""How long a firing alert lasts without being sent again: three chances may be lost."""
RESOLVED_S = 300.0
"""How long a resolved alert is still sent."""


class Alertmanager:
    """The API v2 behind a base URL."""

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
        """Post ``alerts``."""
        import httpx

        try:
            answer = httpx.post(self._address, json=body["alerts"], timeout=timeout_s)
        except httpx.HTTPError as error:
            raise ChannelFailed(f"not reached: {type(error).__name__}") from None
        if not answer.is_success:
            raise ChannelFailed(f"answered {answer.status_code}")


class AlertmanagerFeed(Polling):
    """Sends all that fires to one Alertmanager; each replica does, since equal labels are one alert there."""

    def __init__(
        self,
        channel: Alertmanager,
        severities: frozenset[Severity],
        readers: Readers,
        pages: Pages,
        *,
        clock: Callable[[Connection], Micros] = database_now,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        super().__init__(channel.name, pause_s=AGAIN_S)
        self._thread = SendingThread(channel, timeout_s=timeout_s)
        self._severities = severities
        self._readers = readers
        self._pages = pages
        self._clock = clock

    async def turn(self) -> bool:
        """Send what there is to tell."""
        found = await self._readers.run(self._read)
        if found and not self._thread.busy:
            try:
                await self._thread.send({"alerts": found})
            except ChannelFailed as failure:
                self._log.warning("alertmanager_failed", reason=str(failure))
        return False

    def _read(self, connection: Connection) -> Sequence[Json]:
        now = self._clock(connection)
        silences = active(connection, at=now)
        told = alerts.told(connection, since=Micros(now - round(RESOLVED_S * SECOND)))
        return [
            render(
                alert,
                reports.get(connection, alert.report_id),
                self._pages,
                ends=alert.resolved_at or Micros(now + round(LASTS_S * SECOND)),
            )
            for alert in told
            if alert.finding.severity in self._severities
            and not (alert.is_open and any(silence.covers(alert) for silence in silences))
        ]


def render(alert: Alert, report: Report | None, pages: Pages, *, ends: Micros) -> Json:
    """An alert as the API takes it; its labels are what it is known by."""
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
        "generatorURL": f"{pages.address}/dashboard",
    }
