"""From a check to a message, through the whole application: who hears what, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.api.endpoints.test_alerts import send
from tests.support.application import Client, client_of, make_config, samples, watch_elsewhere
from tests.support.deadlines import wait_until
from tests.support.models.tasks import Fitted
from tests.support.receivers import Webhook, webhook

Small = tuple[Path, dict[str, Fitted]]


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    """A web server that takes every message."""
    with webhook() as running:
        yield running


@pytest.fixture
def client(tmp_path: Path, small_models: Small, receiver: Webhook) -> Iterator[Client]:
    """A service that tells the receiver of critical alerts; its windows hold one batch of the test."""
    window = {"window": {"rows": 200, "hours": 0}}
    alerts = {"notify": [{"url": receiver.url, "severities": ["critical"]}]}
    config = make_config(tmp_path, small_models[0], "text", performance=window, drift=window, alerts=alerts)
    watch_elsewhere(config.store.url.get_secret_value())
    with client_of(config) as client:
        yield client


def check(client: Client, fitted: Fitted, receiver: Webhook, *, wrong: bool, expected: int) -> Sequence[str]:
    """Send a batch, check it, and wait until so many messages have arrived in all."""
    send(client, fitted, shift=0.0, wrong=wrong)
    client.post("/checks")
    receiver.wait_for(expected)
    return receiver.titles


def settled(client: Client) -> dict[str, float]:
    """``ml_alert_deliveries_total`` by result, once no message waits any more."""
    wait_until(lambda: samples(client.get("/metrics").text)["ml_alert_outbox_rows", ()] == 0)
    found = samples(client.get("/metrics").text)
    results = {dict(labels).get("result", ""): value for (name, labels), value in found.items() if "deliveries" in name}
    return {result: results[result] for result in ("delivered", "retried", "expired")}


def test_each_event_arrives_once(client: Client, small_models: Small, receiver: Webhook) -> None:
    """What fires is told once, however often it is found again and even where somebody is on it; so is its end."""
    fitted = small_models[1]["text"]
    for _ in range(2):
        check(client, fitted, receiver, wrong=True, expected=1)
    drop = next(alert for alert in client.get("/alerts").json()["alerts"] if alert["rule"] == "accuracy_drop")
    client.post(f"/alerts/{drop['alert_id']}/acknowledge")
    titles = check(client, fitted, receiver, wrong=True, expected=1)
    assert titles == ["[CRITICAL] text 1: accuracy_drop"]

    titles = check(client, fitted, receiver, wrong=False, expected=2)

    assert titles == ["[CRITICAL] text 1: accuracy_drop", "[RESOLVED] text 1: accuracy_drop"]
    assert settled(client) == {"delivered": 2, "retried": 0, "expired": 0}


def test_a_message_says_what_to_do(client: Client, small_models: Small, receiver: Webhook) -> None:
    """What, how much against which limit, since when, how many rows, why perhaps, what to do, and where to look."""
    check(client, small_models[1]["text"], receiver, wrong=True, expected=1)
    drop = next(alert for alert in client.get("/alerts").json()["alerts"] if alert["rule"] == "accuracy_drop")

    text = receiver.taken[0]["message"]

    assert text.startswith(drop["message"])
    for line in (
        f"Value: 0, limit {drop['limit']:.4g}",
        f"Since: {drop['since'][:19].replace('T', ' ')} UTC, 1 check in a row",
        "Rows: 200 in the window, 200 with their outcome",
        "What to do: Broken input: have it repaired at its source",
        f"Alert: http://127.0.0.1:8000/dashboard/alerts?id={drop['alert_id']}&version=1",
        f"Report: http://127.0.0.1:8000/reports/{drop['report_id']}.html",
        "Playbook: http://127.0.0.1:8000/docs/playbook.md#accuracy-drop",
    ):
        assert line in text
    assert text.count("\n- ") == 3


def test_a_silenced_alert_is_told_afterwards(client: Client, small_models: Small, receiver: Webhook) -> None:
    """Under a silence nobody is told; when it has ended and the rule still holds, they are."""
    fitted = small_models[1]["text"]
    silence = {"matcher": {"rule": "accuracy_drop"}, "duration": "2h", "reason": "relabelling"}
    made = client.post("/alerts/silences", silence).json()
    assert check(client, fitted, receiver, wrong=True, expected=0) == []
    client.delete(f"/alerts/silences/{made['silence_id']}")

    assert check(client, fitted, receiver, wrong=True, expected=1) == ["[CRITICAL] text 1: accuracy_drop"]


def test_what_was_not_told_after_the_restart_is(tmp_path: Path, small_models: Small) -> None:
    """A service that ends while its channel is down tells when both are back, once."""
    window = {"window": {"rows": 200, "hours": 0}}
    with webhook() as away:
        alerts = {"notify": [{"url": away.url, "severities": ["critical"]}]}
    config = make_config(tmp_path, small_models[0], "text", performance=window, alerts=alerts)
    watch_elsewhere(config.store.url.get_secret_value())
    with client_of(config) as client:
        send(client, small_models[1]["text"], shift=0.0, wrong=True)
        client.post("/checks")
    with webhook(away.port) as receiver, client_of(config) as client:
        receiver.wait_for(1)
        client.post("/checks")

    assert receiver.titles == ["[CRITICAL] text 1: accuracy_drop"]


def test_a_changed_channel_hears_of_what_fires(tmp_path: Path, small_models: Small) -> None:
    """After a restart with another URL the new channel hears of what fires, once, without another check."""
    window = {"every": "3s", "window": {"rows": 200, "hours": 0}}
    titles = []
    with webhook() as old, webhook() as new:
        for receiver in (old, new):
            alerts = {"notify": [{"url": receiver.url, "severities": ["critical"]}]}
            config = make_config(
                tmp_path, small_models[0], "text", performance=window, drift={"every": "3s"}, alerts=alerts
            )
            with client_of(config) as client:
                if receiver is old:
                    send(client, small_models[1]["text"], shift=0.0, wrong=True)
                    client.post("/checks")
                receiver.wait_for(1)
            titles.append(receiver.titles)

    assert titles == [["[CRITICAL] text 1: accuracy_drop"]] * 2
