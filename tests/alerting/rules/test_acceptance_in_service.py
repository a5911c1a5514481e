"""``POST /alerts/{id}/accept``, through the whole application: a steady state becomes the new normal."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from app.store.tables import AUDIT, from_text
from app.types import Json
from tests.api.endpoints.test_alerts import Keyed
from tests.support.application import Client, client_of, make_config
from tests.support.models.tasks import Fitted

Small = tuple[Path, dict[str, Fitted]]
ROWS = 200
KEYS = [{"name": "ann", "sha256": sha256(b"secret").hexdigest(), "scopes": ["admin"]}]
WINDOWS = {"window": {"rows": ROWS, "hours": 0}}
DRIFT = {**WINDOWS, "retrain_share": 1.0}


class Stream:
    """Rows of one stream with outcomes, of which parts can be changed, and a check behind each window."""

    def __init__(self, client: Client | Keyed, fitted: Fitted) -> None:
        self.client = client
        self._rng = np.random.default_rng(7)
        self._rows = fitted.rows

    def look(self, *, shift: Json | None = None, wrong: float = 0.0) -> dict[str, Json]:
        """Send a window and check it; the alerts that fire by then, by rule."""
        rows = [dict(self._rows[place]) for place in self._rng.integers(0, len(self._rows), ROWS)]
        for row in rows:
            for name in row:
                row[name] += self._rng.normal(0, 0.001) + (shift or {}).get(name, 0.0)
        answer = self.client.post("/predict", {"instances": rows}).json()
        flip = {"yes": "no", "no": "yes"}
        outcomes = [
            {
                "prediction_id": given["prediction_id"],
                "outcome": flip[given["prediction"]] if place < wrong * ROWS else given["prediction"],
            }
            for place, given in enumerate(answer["predictions"])
        ]
        assert self.client.post("/outcome", {"outcomes": outcomes}).json()["counts"] == {"matched": ROWS}
        self.client.post("/checks")
        return self.firing()

    def firing(self) -> dict[str, Json]:
        """The alerts that fire, by rule."""
        items = self.client.get("/alerts", params={"state": "firing"}).json()["items"]
        return {alert["rule"]: alert for alert in items}

    def accept(self, alert: Json, reason: str = "the new price list") -> Json:
        """Accept an alert."""
        answer = self.client.post(f"/alerts/{alert['alert_id']}/accept", {"reason": reason})
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found


@pytest.fixture
def client(tmp_path: Path, small_models: Small) -> Iterator[Client]:
    """A service over three numbers and the labels no and yes, whose windows hold one look."""
    config = make_config(
        tmp_path, small_models[0], "text", drift=DRIFT, performance=WINDOWS, auth={"keys": KEYS, "open": ["metrics"]}
    )
    with client_of(config) as running:
        yield running


@pytest.fixture
def stream(client: Client, small_models: Small) -> Stream:
    """Its traffic."""
    return Stream(Keyed(client, "secret"), small_models[1]["text"])


def test_a_drift_becomes_normal_and_alarms_when_it_grows(client: Client, stream: Stream) -> None:
    """An accepted drift is no alarm while it is steady; a larger one and another feature are."""
    first = stream.look(shift={"a": 1.5})["feature_drift"]

    accepted = stream.accept(first)

    assert (accepted["state"], accepted["accepted_by"], accepted["accepted_reason"]) == (
        "accepted",
        "ann",
        "the new price list",
    )
    assert accepted["resolved_at"] == accepted["accepted_at"]
    [noted] = stream.client.get("/drift").json()["accepted"]
    assert (noted["alert_id"], noted["accepted_by"], noted["reason"]) == (
        first["alert_id"],
        "ann",
        "the new price list",
    )
    assert noted["accepted_at"] == accepted["accepted_at"]
    assert next(part["what"] for part in noted["parts"] if part["was_found"]) == "feature:a"
    for _ in range(2):
        assert "feature_drift" not in stream.look(shift={"a": 1.5})
    assert stream.client.get("/drift").json()["accepted"][0]["parts"][0]["status"] == "held"
    worse = stream.look(shift={"a": 4.0})["feature_drift"]
    assert "worse than the state that was accepted" in worse["message"]
    other = stream.look(shift={"a": 1.5, "b": 3.0})["feature_drift"]
    assert other["causes"] == ["b"]
    listed = stream.client.get("/alerts", params={"state": "accepted"}).json()["items"]
    assert first["alert_id"] in [alert["alert_id"] for alert in listed]
    audit = client.read(lambda connection: connection.execute(select(AUDIT.c.act, AUDIT.c.by, AUDIT.c.body)).all())
    assert [(row.act, row.by, from_text(row.body)["reason"]) for row in audit] == [
        ("alert_accepted", "ann", "the new price list")
    ]


def test_a_state_that_went_is_not_normal_any_more(stream: Stream) -> None:
    """After a window without the accepted drift, the same drift is a new alarm, and the report says nothing of it."""
    stream.accept(stream.look(shift={"a": 1.5})["feature_drift"])
    for _ in range(2):
        assert "feature_drift" not in stream.look()
    assert stream.client.get("/drift").json().get("accepted", []) == []

    assert "feature_drift" in stream.look(shift={"a": 1.5})


def test_a_drop_and_its_other_metrics_become_normal(stream: Stream) -> None:
    """An accepted drop of accuracy covers the metrics that fell with it; a further drop alarms."""
    stream.accept(stream.look(wrong=0.5)["accuracy_drop"])
    performance = {"accuracy_drop", "metrics_drop", "segment_drop", "estimated_drop"}

    for _ in range(2):
        assert performance & stream.look(wrong=0.5).keys() == set()
    assert [each["rule"] for each in stream.client.get("/performance").json()["accepted"]] == ["accuracy_drop"]
    assert "accuracy_drop" in stream.look(wrong=0.95)


def test_moved_predictions_become_normal(stream: Stream) -> None:
    """An accepted drift of the answers is no alarm of theirs, nor one of the classes' balance."""
    found = stream.look(shift={"a": 3.0})
    for rule in ("prediction_drift", "feature_drift"):
        stream.accept(found[rule])

    for _ in range(2):
        assert {"prediction_drift", "feature_drift", "data_quality"} & stream.look(shift={"a": 3.0}).keys() <= {
            "data_quality"
        } & found.keys()


def test_acceptances_outlive_the_process(tmp_path: Path, small_models: Small) -> None:
    """After a restart the accepted state is still normal, whoever looks."""
    config = make_config(tmp_path, small_models[0], "text", drift=DRIFT, performance=WINDOWS)
    with client_of(config) as client:
        stream = Stream(client, small_models[1]["text"])
        stream.accept(stream.look(shift={"a": 1.5})["feature_drift"])
    with client_of(config) as client:
        again = Stream(client, small_models[1]["text"])

        assert "feature_drift" not in again.look(shift={"a": 1.5})
        assert client.get("/drift").json()["accepted"][0]["accepted_by"] is None


def test_only_a_firing_state_of_the_data_is_accepted(client: Client, stream: Stream) -> None:
    """No such id is 404, an ended alert 409, no reason 422, and a key without the scope 403."""
    alert = stream.look(shift={"a": 1.5})["feature_drift"]
    path = f"/alerts/{alert['alert_id']}/accept"
    refused = {
        reason: stream.client.post(path, {"reason": reason}).status_code
        for reason in ("", " \n", "\u200b\ufeff", "a\0b", "x" * 501)
    }
    assert set(refused.values()) == {422}
    assert stream.client.post(path, {}).status_code == 422
    assert client.post(path, {"reason": "why"}).status_code == 401
    for unknown in ("nothing", "a%00b"):
        assert stream.client.post(f"/alerts/{unknown}/accept", {"reason": "why"}).status_code == 404
    assert stream.client.post(path, {"reason": "why"}).status_code == 200

    assert stream.client.post(path, {"reason": "why"}).status_code == 409
    assert len(stream.client.get("/drift").json()["accepted"]) == 1
