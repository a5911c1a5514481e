"""An Alertmanager: grouping and repeating are its own."""

from __future__ import annotations

from app.alerting.channels import ChannelFailed
from app.alerting.message import Pages, describe
from app.store.alerts import Alert
from app.types import Json, Micros, Report, to_rfc3339


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
