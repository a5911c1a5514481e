"""``GET /alerts`` and its metric, through the whole application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.alerting.rules import severities
from app.types import Task
from tests.fitted import Fitted
from tests.services import Client, client_of, make_config, samples

ROWS = 240


@pytest.fixture
def client(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Client]:
    """A service over three numbers and the labels no and yes."""
    with client_of(make_config(tmp_path, small_models[0], "text")) as client:
        yield client


def send(client: Client, fitted: Fitted, *, shift: float, wrong: bool) -> None:
    """Every row of the data, feature a moved by ``shift``, and its outcome, told wrongly if asked for."""
    rows = [row | {"a": row["a"] + shift} for row in fitted.rows]
    answer = client.post("/predict", {"instances": rows}).json()
    flip = {"yes": "no", "no": "yes"}
    outcomes = [
        {
            "prediction_id": given["prediction_id"],
            "outcome": flip[given["prediction"]] if wrong else given["prediction"],
        }
        for given in answer["predictions"]
    ]
    assert client.post("/outcome", {"outcomes": outcomes}).json()["counts"] == {"matched": ROWS}


def firing(client: Client) -> dict[str, float]:
    """``ml_alerts_firing`` by rule."""
    found = samples(client.get("/metrics").text)
    return {dict(labels)["rule"]: value for (name, labels), value in found.items() if name == "ml_alerts_firing"}


def test_no_alert_before_the_first_check(client: Client) -> None:
    """Without a report nothing fires, and the metric has a zero for every rule."""
    assert client.get("/alerts").json() == {"alerts": [], "recommendations": []}
    assert firing(client) == dict.fromkeys(severities(Task.BINARY), 0.0)


def test_wrong_answers_and_drift_raise_alerts(client: Client, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Outcomes that contradict the model, on drifted rows, fire the critical alert with its cause and the advice."""
    send(client, small_models[1]["text"], shift=1.5, wrong=True)
    reports = {item["kind"]: item["report_id"] for item in client.post("/checks").json()["reports"]}

    answer = client.get("/alerts").json()

    found = {alert["rule"]: alert for alert in answer["alerts"]}
    drop = found["accuracy_drop"]
    assert (drop["severity"], drop["state"], drop["value"]) == ("critical", "firing", 0.0)
    assert drop["value"] < drop["limit"]
    assert drop["causes"] == ["a"]
    assert drop["playbook"] == "docs/playbook.md#accuracy-drop"
    assert drop["report_id"] == reports["performance"]
    assert answer["alerts"][0] == drop
    assert "retrain" in [advice["action"] for advice in answer["recommendations"]]
    assert {rule for rule, value in firing(client).items() if value} == set(found)


def test_alerts_need_the_scope_read(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """With keys configured, GET /alerts without one is refused."""
    keys = [{"name": "reader", "sha256": "0" * 64, "scopes": ["read"]}]
    with client_of(make_config(tmp_path, small_models[0], "text", auth={"keys": keys})) as client:
        assert client.get("/alerts").status_code == 401
