"""Messages of real services to real receivers, over kills, restarts, two replicas and channels that fail."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.models.tasks import Fitted
from tests.support.processes import Postgres, Service, free_port, serving
from tests.support.programs import require_tool
from tests.support.receivers import Webhook, webhook

pytestmark = pytest.mark.fault
Small = tuple[Path, dict[str, Fitted]]
SETTINGS = {
    "SERVING__ACTIVE": "text",
    "DRIFT__EVERY": "1d",
    "PERFORMANCE__EVERY": "1d",
    "PERFORMANCE__WINDOW": "{rows: 200, hours: 0}",
}
FIRING, RESOLVED = "[CRITICAL] text 1: accuracy_drop", "[RESOLVED] text 1: accuracy_drop"
ALL_EVENTS = ("message_delivered", "message_put_off", "alertmanager_failed")
SECRET = "hunter2token"  # noqa: S105 - the tests look for it where it must not be


def notify(*urls: str) -> dict[str, str]:
    """Settings under which these channels hear of critical alerts."""
    items = [{"url": url, "severities": ["critical"]} for url in urls]
    return SETTINGS | {"ALERTS__NOTIFY": json.dumps(items)}


def check(service: Service, fitted: Fitted, *, wrong: bool) -> None:
    """Send a batch of rows with their outcomes, told wrongly if asked for, and check."""
    flip = {"yes": "no", "no": "yes"}
    status, answer = service.call("POST", "/predict", {"instances": fitted.rows})
    assert status == 200
    given = [(item["prediction_id"], item["prediction"]) for item in answer["predictions"]]
    outcomes = [{"prediction_id": key, "outcome": flip[label] if wrong else label} for key, label in given]
    assert service.call("POST", "/outcome", {"outcomes": outcomes})[0] == 200
    assert service.call("POST", "/checks")[0] == 200


def wait_told(*services: Service) -> None:
    """Wait until no message waits in the store any more, by the metrics of all these services."""
    wait_until(lambda: all("\nml_alert_outbox_rows 0.0\n" in text(service, "/metrics") for service in services))


@contextmanager
def alertmanager(folder: Path, receiver: Webhook) -> Iterator[str]:
    """A real Alertmanager that notifies the receiver of each rule at once; its base URL."""
    config = {
        "route": {
            "receiver": "hook",
            "group_by": ["alertname"],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "hook", "webhook_configs": [{"url": f"http://127.0.0.1:{receiver.port}/"}]}],
    }
    (folder / "alertmanager.yml").write_text(json.dumps(config), encoding="utf-8")
    program = require_tool("alertmanager", "prometheus-alertmanager")
    address = f"127.0.0.1:{free_port()}"
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: is_ready(address))
        yield address
    finally:
        process.kill()
        process.wait()


def is_ready(address: str) -> bool:
    """Whether an Alertmanager answers."""
    try:
        fetch(address, "/-/ready")
    except OSError:
        return False
    return True


def fetch(address: str, path: str) -> bytes:
    """The body of a GET."""
    connection = HTTPConnection(address, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def heard(receiver: Webhook) -> list[tuple[str, str]]:
    """What an Alertmanager has notified of: rule and state."""
    return [(alert["labels"]["alertname"], body["status"]) for body in receiver.taken for alert in body["alerts"]]


def test_an_alertmanager_notifies_once(tmp_path: Path, small_models: Small) -> None:
    """It hears of an alert again and again, over a kill too, and notifies once that it fires and once of its end."""
    fitted = small_models[1]["text"]
    with webhook() as receiver, alertmanager(tmp_path, receiver) as address:
        settings = notify(f"alertmanager+http://{address}")
        with serving(tmp_path, models=small_models[0], settings=settings) as service:
            check(service, fitted, wrong=True)
            receiver.wait_for(1)
            check(service, fitted, wrong=True)
            service.end(signal.SIGKILL)
        with serving(tmp_path, models=small_models[0], settings=settings) as service:
            check(service, fitted, wrong=True)
            [shown] = json.loads(fetch(address, "/api/v2/alerts"))
            check(service, fitted, wrong=False)
            receiver.wait_for(2)
            wait_until(lambda: json.loads(fetch(address, "/api/v2/alerts")) == [])
            wait_told(service)

    assert heard(receiver) == [("accuracy_drop", "firing"), ("accuracy_drop", "resolved")]
    assert shown["labels"] == {
        "alertname": "accuracy_drop",
        "severity": "critical",
        "model_name": "text",
        "model_version": "1",
        "service": "plumbline",
    }
    assert shown["annotations"]["summary"].startswith("accuracy 0")
    assert shown["annotations"]["playbook"].endswith("/docs/playbook.md#accuracy-drop")
    assert "What to do:" in shown["annotations"]["description"]


def test_killed_between_commit_and_delivery(tmp_path: Path, small_models: Small, postgres: Postgres) -> None:
    """Of two replicas the one that found the alert dies before it could tell: the other tells, once."""
    fitted = small_models[1]["text"]
    store = postgres.create_database("messages")
    with webhook() as away:
        settings = notify(away.url)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        serving(tmp_path / "one", models=small_models[0], settings=settings, store=store) as first,
        serving(tmp_path / "two", models=small_models[0], settings=settings, store=store) as second,
    ):
        check(first, fitted, wrong=True)
        first.end(signal.SIGKILL)
        with webhook(away.port) as receiver:
            receiver.wait_for(1)  # the first may have died while it held the message
            check(second, fitted, wrong=True)
            check(second, fitted, wrong=False)
            receiver.wait_for(2)
            wait_told(second)

    assert receiver.titles == [FIRING, RESOLVED]


def test_two_replicas_tell_once(tmp_path: Path, small_models: Small, postgres: Postgres) -> None:
    """Both deliver, both check, and each event arrives once."""
    fitted = small_models[1]["text"]
    store = postgres.create_database("twice")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        webhook() as receiver,
        serving(tmp_path / "one", models=small_models[0], settings=notify(receiver.url), store=store) as first,
        serving(tmp_path / "two", models=small_models[0], settings=notify(receiver.url), store=store) as second,
    ):
        for service in (first, second, first):
            check(service, fitted, wrong=True)
        receiver.wait_for(1)
        check(second, fitted, wrong=False)
        receiver.wait_for(2)
        wait_told(first, second)

    assert receiver.titles == [FIRING, RESOLVED]


def test_a_hanging_channel_delays_nothing(tmp_path: Path, small_models: Small) -> None:
    """While a channel hangs, checks, requests and another channel go on, and the process ends without it."""
    fitted = small_models[1]["text"]
    with webhook() as stuck, webhook() as receiver:
        stuck.hangs.set()
        with serving(
            tmp_path, models=small_models[0], settings=notify(f"{stuck.url}?rto={10 * DEADLINE_S:.0f}", receiver.url)
        ) as service:
            check(service, fitted, wrong=True)
            receiver.wait_for(1)
            assert stuck.asked.wait(DEADLINE_S)  # each channel has a thread of its own; either may come first
            assert {service.call("GET", "/health/ready")[0] for _ in range(50)} == {200}
            check(service, fitted, wrong=True)
            code = service.end(signal.SIGTERM)
            assert stuck.taken == []

    assert code == 0
    assert receiver.titles == [FIRING]


def test_no_secret_is_ever_shown(tmp_path: Path, small_models: Small) -> None:
    """With a channel that works and some that fail, no token stands in a log, a metric, an answer or the store."""
    fitted = small_models[1]["text"]
    with webhook() as receiver:
        receiver.answers = [500]
        urls = (
            f"json://user:{SECRET}@127.0.0.1:{receiver.port}/{SECRET}?+X-Token={SECRET}",
            f"json://{SECRET}.invalid/{SECRET}",
            f"alertmanager+http://user:{SECRET}@127.0.0.1:{free_port()}/{SECRET}",
            f"tgram://123456789:{SECRET}aaaaaaaaaaaaaaaaaaaaaaa/{SECRET}",
        )
        with serving(tmp_path, models=small_models[0], settings=notify(*urls)) as service:
            check(service, fitted, wrong=True)
            receiver.wait_for(1)
            wait_until(lambda: all(event in service.log.read_text(encoding="utf-8") for event in ALL_EVENTS))
            shown = [text(service, path) for path in ("/metrics", "/alerts", "/openapi.json", "/models/text")]
            report = service.call("GET", "/alerts")[1]["alerts"][0]["report_id"]
            shown += [text(service, f"/reports/{report}"), text(service, f"/reports/{report}.html")]
            shown.append(service.log.read_text(encoding="utf-8"))
            code = service.end(signal.SIGTERM)
        stored = b"".join(file.read_bytes() for file in tmp_path.glob("plumbline.db*"))

    assert code == 0
    assert [SECRET in each for each in shown] == [False] * len(shown)
    assert SECRET.encode() not in stored


def text(service: Service, path: str) -> str:
    """The body of an answer."""
    connection: Any = HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        body: bytes = connection.getresponse().read()
        return body.decode()
    finally:
        connection.close()
