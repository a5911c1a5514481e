"""``GET /alerts`` and its metric, through the whole application."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from app.alerting.rules.drift import severities
from app.errors import ConfigError
from app.main import create_app
from app.store.queries import alerts as stored_alerts
from app.store.tables import SILENCES
from app.types import Json, Task
from tests.support.application import Client, client_of, make_config, samples
from tests.support.models.tasks import Fitted

ROWS = 240


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Client]:
    """The same, for all tests that leave nothing behind."""
    with client_of(make_config(tmp_path_factory.mktemp("quiet"), small_models[0], "text")) as client:
        yield client


@pytest.fixture
def client(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Client]:
    """A service over three numbers and the labels no and yes."""
    with client_of(make_config(tmp_path, small_models[0], "text")) as client:
        yield client


class Keyed:
    """A client that sends its key with every call."""

    def __init__(self, client: Client, key: str) -> None:
        headers = {"x-api-key": key}
        self.get = partial(client.get, headers=headers)
        self.post = partial(client.post, headers=headers)
        self.delete = partial(client.delete, headers=headers)


def send(client: Client | Keyed, fitted: Fitted, *, shift: float, wrong: bool) -> None:
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
    """``ml_alerts_firing`` by rule, over all severities."""
    found: defaultdict[str, float] = defaultdict(float)
    for (name, labels), value in samples(client.get("/metrics").text).items():
        if name == "ml_alerts_firing":
            found[dict(labels)["rule"]] += value
    return dict(found)


def test_no_alert_before_the_first_check(client: Client) -> None:
    """Without a report nothing fires, and the metric has a zero for every rule."""
    nothing: Json = {"items": [], "next": None, "alerts": [], "silences": [], "recommendations": [], "actions": []}
    assert client.get("/alerts").json() == nothing
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
    retrain = next(advice for advice in answer["recommendations"] if advice["action"] == "retrain")
    assert {each["report_id"] for each in retrain["evidence"]} <= set(reports.values())
    assert {rule for rule, value in firing(client).items() if value} == {
        rule for rule, alert in found.items() if alert["state"] == "firing"
    }


def test_rules_of_ones_own(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """They fire over real reports beside the default ones, can be silenced, and stand in the metric from the start."""
    rules = [
        "default",
        {"name": "feature_drift", "enabled": False},
        {"name": "drift_many", "enabled": False},
        {"name": "a_moves", "metric": "drift.feature.a.psi", "warning": 0.5, "critical": 50},
        {"name": "few_right", "metric": "performance.realised.f1", "comparison": "less", "critical": 0.5},
        {"name": "few_labels", "metric": "performance.coverage", "comparison": "less", "warning": 0.5},
    ]
    with client_of(make_config(tmp_path, small_models[0], "text", alerts={"rules": rules})) as client:
        before = samples(client.get("/metrics").text)
        send(client, small_models[1]["text"], shift=1.5, wrong=True)
        client.post("/checks")
        found = {alert["rule"]: alert for alert in client.get("/alerts").json()["alerts"]}
        silence = {"matcher": {"rule": "a_moves"}, "duration": "1h", "reason": "known"}
        silenced = client.post("/alerts/silences", silence).status_code

    known = {dict(labels)["rule"] for name, labels in before if name == "ml_alerts_firing"}
    assert {"a_moves", "few_right", "few_labels", "accuracy_drop"} <= known
    assert not {"feature_drift", "drift_many", "few_labels"} & found.keys()
    assert "accuracy_drop" in found
    assert [(found[rule]["severity"], found[rule]["playbook"]) for rule in ("a_moves", "few_right")] == [
        ("medium", "docs/playbook.md#own-rules"),
        ("critical", "docs/playbook.md#own-rules"),
    ]
    assert found["a_moves"]["causes"] == ["a"]
    assert silenced == 200


def test_a_rule_over_an_unknown_figure_fails_the_start(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """A misspelt feature is said before anything is opened, with the nearest name."""
    rules = [{"name": "mine", "metric": "drift.feature.aa.psi", "warning": 0.5}]

    with pytest.raises(
        ConfigError, match=r"the reports have no drift\.feature\.aa\.psi; did you mean drift\.feature\.a\.psi"
    ):
        create_app(make_config(tmp_path, small_models[0], "text", alerts={"rules": rules}))


def test_somebody_acknowledges_and_silences(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """An alert shows who is on it and whether it is silenced; who did so is audited, and silences can be ended."""
    keys = [
        {"name": "ann", "sha256": sha256(b"secret").hexdigest(), "scopes": ["admin"]},
        {"name": "reader", "sha256": sha256(b"read").hexdigest(), "scopes": ["read"]},
    ]
    with (
        capture_logs() as log,
        client_of(make_config(tmp_path, small_models[0], "text", auth={"keys": keys})) as guarded,
    ):
        client = Keyed(guarded, "secret")
        send(client, small_models[1]["text"], shift=1.5, wrong=True)
        client.post("/checks")
        drop = client.get("/alerts").json()["alerts"][0]

        acknowledged = client.post(f"/alerts/{drop['alert_id']}/acknowledge").json()
        silence = {"matcher": {"rule": "accuracy_drop"}, "duration": "2h", "reason": "relabelling"}
        silenced = client.post("/alerts/silences", silence).json()
        during = client.get("/alerts").json()
        ended = client.delete(f"/alerts/silences/{silenced['silence_id']}").json()
        after = client.get("/alerts").json()

        assert Keyed(guarded, "read").post("/alerts/silences", silence).status_code == 403
        assert Keyed(guarded, "read").post(f"/alerts/{drop['alert_id']}/acknowledge").status_code == 403
    assert (acknowledged["state"], acknowledged["acknowledged_by"]) == ("acknowledged", "ann")
    assert during["silences"] == [silenced]
    assert silenced["matcher"] == {"rule": "accuracy_drop", "severity": None, "feature": None}
    assert (silenced["created_by"], silenced["reason"]) == ("ann", "relabelling")
    assert [during["alerts"][0][key] for key in ("state", "silenced_until")] == ["silenced", silenced["ends_at"]]
    assert ended["ends_at"] < silenced["ends_at"]
    assert (after["alerts"][0]["state"], after["silences"]) == ("acknowledged", [])
    assert [entry["event"] for entry in log if entry.get("by") == "ann"] == [
        "alert_acknowledged",
        "alerts_silenced",
        "silence_ended",
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"duration": "2h", "reason": "why"}, "matcher"),
        ({"matcher": {"rule": "acuracy_drop"}, "duration": "2h", "reason": "why"}, "matcher.rule"),
        ({"matcher": {"severity": "bad"}, "duration": "2h", "reason": "why"}, "matcher.severity"),
        ({"matcher": {"feature": "zzz"}, "duration": "2h", "reason": "why"}, "matcher.feature"),
        ({"matcher": {"region": "EU"}, "duration": "2h", "reason": "why"}, "matcher.region"),
        ({"matcher": {}, "duration": "2", "reason": "why"}, "duration"),
        ({"matcher": {}, "duration": "366d", "reason": "why"}, "duration"),
        ({"matcher": {}, "duration": "2h", "reason": ""}, "reason"),
        ({"matcher": {}, "duration": "2h", "reason": "a\0b"}, "reason"),
        ({"matcher": {}, "duration": "2h", "reason": " \u200b\u2060\u3000"}, "reason"),
        ({"matcher": {}, "duration": "2h", "reason": "why", "starts_at": "2020-01-01T00:00:00Z"}, "starts_at"),
        ({"matcher": {}, "duration": "2h", "reason": "why", "starts_at": "9999-12-31T23:00:00Z"}, "starts_at"),
    ],
)
def test_a_silence_that_says_nothing_sensible_is_refused(quiet: Client, body: Json, field: str) -> None:
    """A misspelt rule, an unknown feature or a silence for ever is a 422 that names the field, not a silent nothing."""
    answer = quiet.post("/alerts/silences", body)

    assert answer.status_code == 422
    assert [item["field"] for item in answer.json()["detail"]] == [field]
    assert quiet.get("/alerts").json()["silences"] == []


def test_a_planned_silence_waits(client: Client) -> None:
    """A maintenance window is listed before it begins."""
    planned = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    body = {"matcher": {}, "duration": "30m", "reason": "release", "starts_at": planned}
    made = client.post("/alerts/silences", body).json()

    assert client.get("/alerts").json()["silences"] == [made]
    assert made["starts_at"] > made["created_at"]


def test_unknown_and_ended_alerts_are_not_acknowledged(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """No such id is a 404; what was resolved is a 409."""
    window = {"window": {"rows": 200, "hours": 0}}
    with client_of(make_config(tmp_path, small_models[0], "text", performance=window)) as client:
        for wrong in (True, False):
            send(client, small_models[1]["text"], shift=0.0, wrong=wrong)
            client.post("/checks")
        [drop] = [alert for alert in client.get("/alerts").json()["alerts"] if alert["rule"] == "accuracy_drop"]

        assert drop["state"] == "resolved"
        assert client.post(f"/alerts/{drop['alert_id']}/acknowledge").status_code == 409
        assert client.post("/alerts/nothing/acknowledge").status_code == 404
        assert client.delete("/alerts/silences/nothing").status_code == 404


def test_alerts_need_the_scope_read(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """With keys configured, GET /alerts without one is refused."""
    keys = [{"name": "reader", "sha256": "0" * 64, "scopes": ["read"]}]
    with client_of(make_config(tmp_path, small_models[0], "text", auth={"keys": keys})) as client:
        assert client.get("/alerts").status_code == 401


SILENCE = {"matcher": {"rule": "latency"}, "duration": "1h", "reason": "known"}


def test_planned_silences_are_bounded_and_listed_in_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a silence is refused until one has ended; pages show all, the alerts the first to end."""
    monkeypatch.setattr(stored_alerts, "MAX_SILENCES", 5)
    made = [client.post("/alerts/silences", SILENCE | {"duration": f"{hours}h"}) for hours in range(6, 0, -1)]
    assert [answer.status_code for answer in made] == [200] * 5 + [422]
    assert "end one first" in made[5].text

    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get("/alerts/silences", params={"limit": 2, "cursor": cursor}).json()
        pages.append([silence["silence_id"] for silence in page["items"]])
        cursor = page["next"]
    ids = [answer.json()["silence_id"] for answer in reversed(made[:5])]
    assert pages == [ids[:2], ids[2:4], ids[4:]]

    client.delete(f"/alerts/silences/{ids[0]}")
    assert client.post("/alerts/silences", SILENCE).status_code == 200


def test_ended_silences_are_pruned(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes and ends silences without end leaves a bounded number behind."""
    monkeypatch.setattr(stored_alerts, "MAX_SILENCES", 5)
    for _ in range(20):
        silence = client.post("/alerts/silences", SILENCE).json()
        assert client.delete(f"/alerts/silences/{silence['silence_id']}").status_code == 200

    kept = client.read(lambda connection: connection.execute(select(func.count()).select_from(SILENCES)).scalar_one())
    assert kept <= 6


def test_alerts_are_chosen_and_come_in_pages(client: Client, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """State, rule and severity choose; pages follow each other in the order of the whole list."""
    send(client, small_models[1]["text"], shift=1.5, wrong=True)
    client.post("/checks")
    whole = client.get("/alerts").json()
    first = client.get("/alerts", params={"limit": 1}).json()
    second = client.get("/alerts", params={"limit": 1000, "cursor": first["next"]}).json()

    assert whole["items"] == whole["alerts"]
    assert whole["items"] == first["items"] + second["items"]
    assert (len(first["items"]), second["next"]) == (1, None)
    for name in ("state", "rule", "severity"):
        chosen = client.get("/alerts", params={name: whole["items"][0][name]}).json()["items"]
        assert chosen == [alert for alert in whole["items"] if alert[name] == whole["items"][0][name]]
