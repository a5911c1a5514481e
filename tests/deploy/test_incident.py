"""An incident from the service to those who are told, through the shipped rules and routes."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.deploy.stack import alertmanager, prometheus, query
from tests.support.models.tasks import Fitted
from tests.support.processes import free_port, launch, serving
from tests.support.receivers import Webhook, mailbox, webhook


def titles(hook: Webhook) -> list[str]:
    """The titles that came to Slack."""
    return [part["title"] for body in hook.taken if "attachments" in body for part in body["attachments"]]


def has_value(address: str, expression: str) -> bool:
    """Whether Prometheus answers already, and has a value for an expression."""
    with suppress(OSError):
        return bool(query(address, expression))
    return False


def post(address: str, alerts: list[Any]) -> None:
    """Tell an Alertmanager of alerts, as Prometheus does."""
    body = json.dumps(alerts).encode()
    request = Request(f"http://{address}/api/v2/alerts", body, {"Content-Type": "application/json"})
    urlopen(request, timeout=DEADLINE_S).close()  # noqa: S310 - as above


def test_a_dead_replica_is_told_and_its_return_too(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """Prometheus sees that the service has gone, Slack and Telegram hear of it, and Slack of its end."""
    settings = {"SERVING__ACTIVE": "mixed"}
    with (
        webhook() as hook,
        alertmanager(tmp_path, hook.port, free_port()) as notified,
        serving(tmp_path, models=small_models[0], settings=settings) as service,
        prometheus(tmp_path, service.port, notified) as address,
    ):
        wait_until(lambda: has_value(address, 'up{job="plumbline"} == 1'))
        service.end(signal.SIGKILL)
        wait_until(lambda: "FIRING: A replica does not answer a scrape" in titles(hook), lambda: hook.taken)
        wait_until(lambda: any("text" in body and "chat_id" in body for body in hook.taken))
        again = launch(tmp_path, models=small_models[0], port=service.port, settings=settings)
        try:
            wait_until(lambda: "RESOLVED: A replica does not answer a scrape" in titles(hook))
        finally:
            again.process.kill()
            again.process.wait()


def test_a_mild_alert_is_mailed_and_a_known_consequence_is_not_told(tmp_path: Path) -> None:
    """A low alert comes as a mail; what the outage of the store explains comes nowhere."""
    port = free_port()
    model = {"job": "plumbline", "model_name": "credit", "model_version": "1"}
    outage = {**model, "alertname": "PlumblineModelAlert", "rule": "store_unreachable", "severity": "critical"}
    spooling = {"job": "plumbline", "alertname": "PlumblineSpooling", "severity": "high"}
    mild = {**model, "alertname": "PlumblineModelAlert", "rule": "drift_many", "severity": "low"}
    with webhook() as hook, mailbox(port) as mails, alertmanager(tmp_path, hook.port, port) as address:
        post(address, [{"labels": outage, "annotations": {"summary": "store"}}])
        wait_until(lambda: "FIRING: store" in titles(hook))
        post(address, [{"labels": spooling, "annotations": {"summary": "spool"}}])
        post(address, [{"labels": mild, "annotations": {"summary": "drift"}}])
        wait_until(lambda: any("drift_many" in subject for subject, _ in mails.mails), lambda: mails.mails)

        assert not any("spool" in title for title in titles(hook))
