"""``POST /outcome``: matched, repeated, contradicted, revised, waited for, and counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.store.queries import outcomes
from app.store.queries.outcomes import expire, revisions_of
from app.types import Micros
from tests.api.conftest import Start
from tests.support.application import Client, samples, watch_elsewhere
from tests.support.models.tasks import Fitted

ROW = [0.1, 0.2, 0.3]
WHEN = "2026-01-02T03:04:05Z"


def predict(client: Client, *ids: str) -> None:
    """Store predictions with these ids."""
    assert client.post("/predict", {"instances": [ROW] * len(ids), "prediction_ids": list(ids)}).status_code == 200


def report(client: Client, prediction_id: str, outcome: object, **more: object) -> tuple[int, Any]:
    """Report one outcome; the status code and, of a 200, the outcome's status."""
    answer = client.post("/outcome", {"prediction_id": prediction_id, "outcome": outcome, **more})
    return answer.status_code, answer.json().get("status")


@pytest.mark.parametrize(
    ("name", "truth", "others"),
    [
        ("zero_one", 0, [0.0, False]),
        ("zero_one", 1, [1.0, True]),
        ("boolean", False, [0, 0.0]),
        ("blank", "", []),
        ("text", "no", []),
        ("price", 0, [0.0, -0.0]),
    ],
)
def test_equal_outcomes_are_duplicates(start: Start, name: str, truth: object, others: list[object]) -> None:
    """0, false and "" are outcomes like any other; the same truth in another type of the schema is the same truth."""
    client = start(name)
    predict(client, "p")

    assert report(client, "p", truth) == (200, "matched")
    assert [report(client, "p", other) for other in [truth, *others]] == [(200, "duplicate")] * (1 + len(others))
    stored = client.get("/predictions/p").json()
    assert stored["outcome"]["outcome"] == truth
    assert len(stored["revisions"]) == 1


@pytest.mark.parametrize(
    ("name", "strange"), [("zero_one", "0"), ("zero_one", "2"), ("text", False), ("price", "1"), ("price", True)]
)
def test_what_cannot_be_the_truth_is_refused(start: Start, name: str, strange: object) -> None:
    """A label that the model cannot answer is 422."""
    client = start(name)
    predict(client, "p")

    assert report(client, "p", strange)[0] == 422
    assert client.get("/predictions/p").json()["outcome"] is None


def test_a_contradiction_is_a_conflict_unless_it_revises(start: Start) -> None:
    """Another outcome is 409; with ``revise`` it is kept beside the first, and the latest counts."""
    client = start("text")
    predict(client, "p")
    report(client, "p", "no", value=-130.5, observed_at=WHEN)

    assert report(client, "p", "yes", value=-130.5)[0] == 409
    assert report(client, "p", "no", value=1)[0] == 409
    assert report(client, "p", "no")[0] == 409
    assert report(client, "p", "yes", value=-130.5, revise=True) == (200, "revised")
    assert report(client, "p", "yes", value=7, revise=True) == (200, "revised")
    assert report(client, "p", "yes", value=7, revise=True) == (200, "duplicate")
    stored = client.get("/predictions/p").json()
    assert [(item["revision"], item["outcome"], item["value"]) for item in stored["revisions"]] == [
        (1, "no", -130.5),
        (2, "yes", -130.5),
        (3, "yes", 7),
    ]
    assert stored["outcome"] == stored["revisions"][-1]
    assert stored["revisions"][0]["observed_at"] == "2026-01-02T03:04:05.000000Z"


def test_an_unknown_id_is_404(start: Start) -> None:
    """An outcome without its prediction is refused by default, and not kept."""
    client = start("text")

    assert report(client, "nobody", "no")[0] == 404
    assert client.get("/outcomes", params={"status": "pending"}).json() == {"items": [], "next": None}


def test_a_held_outcome_waits_for_its_prediction(start: Start) -> None:
    """With ``outcomes.unknown: hold`` it is pending until its prediction comes; then it is its truth."""
    client = start("zero_one", outcomes={"unknown": "hold"})

    assert report(client, "later", False, value=2.5) == (200, "pending")
    assert report(client, "later", False, value=2.5) == (200, "duplicate")
    waiting = client.get("/outcomes", params={"status": "pending"}).json()["items"]
    assert [(item["prediction_id"], item["outcome"], item["value"]) for item in waiting] == [("later", False, 2.5)]
    predict(client, "later")
    assert client.get("/outcomes").json()["items"] == []
    assert client.get("/predictions/later").json()["outcome"]["value"] == 2.5
    assert report(client, "later", 0, value=2.5) == (200, "duplicate")
    assert report(client, "later", 1, value=2.5)[0] == 409


def test_a_held_outcome_expires(start: Start) -> None:
    """What waited longer than ``outcomes.hold_for`` is gone, whole, and may be reported anew.

    What was revised since waits on.
    """
    client = start("text", outcomes={"unknown": "hold"})
    report(client, "old", "no")
    moment = client.get("/outcomes").json()["items"][0]
    report(client, "revised", "no")
    report(client, "revised", "yes", revise=True)
    revisions = client.read(lambda connection: _recorded(connection, "revised"))
    journal = client.services.journal

    client.portal.call(journal.run, partial(expire, before=Micros(revisions[1]), limit=10))

    assert moment["prediction_id"] == "old"
    assert [item["prediction_id"] for item in client.get("/outcomes").json()["items"]] == ["revised"]
    assert report(client, "old", "yes") == (200, "pending")
    assert len(client.read(lambda connection: _recorded(connection, "revised"))) == 2


def test_a_bad_item_never_loses_the_others(start: Start) -> None:
    """Many outcomes are judged one by one, in order; the counts say what became of them, and so do the metrics."""
    client = start("text")
    predict(client, "a", "b", "c")
    items: list[object] = [
        {"prediction_id": "a", "outcome": "no"},
        {"prediction_id": "a", "outcome": "no"},
        {"prediction_id": "a", "outcome": "yes"},
        {"prediction_id": "a", "outcome": "yes", "revise": True},
        {"prediction_id": "nobody", "outcome": "yes"},
        {"prediction_id": "b", "outcome": 1},
        {"prediction_id": "b", "outcome": None},
        {"prediction_id": "b", "outcome": "no", "value": 1e400},
        {"prediction_id": "b", "outcome": "no", "observed_at": "2026-01-01"},
        {"prediction_id": "b", "outcome": "no", "observed_at": "2999-01-01T00:00:00Z"},
        {"prediction_id": "b" * 200, "outcome": "no"},
        {"outcome": "no"},
        "nonsense",
        None,
        [],
        {"prediction_id": "c", "outcome": "yes", "observed_at": WHEN},
    ]
    body = json.dumps({"outcomes": items}).replace("Infinity", "1e400").encode()
    answer = client.raw("/outcome", body)
    statuses = [item["status"] for item in answer.json()["results"]]

    assert answer.status_code == 200
    assert statuses == ["matched", "duplicate", "conflict", "revised", "unknown", *["invalid"] * 10, "matched"]
    assert answer.json()["counts"] == {
        "matched": 2, "duplicate": 1, "conflict": 1, "revised": 1, "unknown": 1, "invalid": 10,
    }  # fmt: skip
    assert all(item["detail"] for item in answer.json()["results"][4:-1])
    assert client.get("/predictions/b").json()["outcome"] is None
    counted = samples(client.get("/metrics").text)
    assert counted["ml_outcomes_total", (("status", "invalid"),)] == 10


def test_a_class_that_the_model_lacks_is_a_truth(start: Start) -> None:
    """It is stored, repeated and revised like any other; the list form says that the class is not known."""
    client = start("text")
    predict(client, "a", "b", "c")
    item = {"prediction_id": "a", "outcome": "maybe"}
    listed = client.post("/outcome", {"outcomes": [item, item, {"prediction_id": "b", "outcome": "yes"}]}).json()

    assert [each["status"] for each in listed["results"]] == ["matched", "duplicate", "matched"]
    assert ["does not know" in (each["detail"] or "") for each in listed["results"]] == [True, True, False]
    assert client.get("/predictions/a").json()["outcome"]["outcome"] == "maybe"
    assert report(client, "c", "perhaps") == (200, "matched")
    assert client.post("/outcome", {**item, "outcome": "yes"}).status_code == 409
    assert client.post("/outcome", {**item, "outcome": "yes", "revise": True}).json()["status"] == "revised"
    assert client.get("/predictions/a").json()["outcome"]["outcome"] == "yes"


def test_a_clock_may_run_a_little_ahead(start: Start) -> None:
    """An ``observed_at`` of the next minute is a clock's difference, not a prophecy."""
    client = start("text")
    predict(client, "p")

    assert report(client, "p", "no", observed_at=(datetime.now(UTC) + timedelta(minutes=1)).isoformat()) == (
        200,
        "matched",
    )


def test_performance_is_what_a_hand_computes(tmp_path: Path, start: Start, fitted: dict[str, Fitted]) -> None:
    """POST /checks, GET /performance: accuracy and coverage of 80 labelled rows among 100 are those counted by hand."""
    watch_elsewhere(f"sqlite:///{tmp_path / 'plumbline.db'}")
    client, rows = start("text", performance={"label_delay": "1ms"}), fitted["text"].rows[:100]
    ids = [f"p{number}" for number in range(100)]
    answers = client.post("/predict", {"instances": rows, "prediction_ids": ids}).json()["predictions"]
    wrong = {"no": "yes", "yes": "no"}
    truths = [
        answer["prediction"] if number % 10 else wrong[answer["prediction"]] for number, answer in enumerate(answers)
    ]
    outcomes = [
        {"prediction_id": name, "outcome": truth, "value": 2.0}
        for name, truth in zip(ids[:80], truths[:80], strict=True)
    ]
    client.post("/outcome", {"outcomes": outcomes})
    assert client.get("/performance").json()["status"] == "insufficient_data"

    made = client.post("/checks").json()["reports"]
    performance = client.get("/performance").json()

    assert {report["kind"] for report in made} >= {"drift", "performance"}
    assert performance["report_id"] in {report["report_id"] for report in made}
    assert performance["realised"]["labelled"] == 80
    assert performance["realised"]["coverage"] == pytest.approx(0.8)
    assert performance["realised"]["metrics"]["accuracy"]["value"] == pytest.approx(72 / 80)
    assert performance["business"]["value_sum"] == pytest.approx(160.0)
    assert client.get(f"/reports/{performance['report_id']}").json() == performance
    history = client.get("/performance/history").json()["items"]
    assert [item["values"]["accuracy"] for item in history] == [pytest.approx(0.9)]
    assert history[0]["checked_at"].endswith("Z")
    drift = client.get("/drift").json()
    assert drift["window"]["rows"] == 100
    share = client.get("/drift/history", params={"feature": "a"}).json()["items"]
    assert [item["report_id"] for item in share] == [drift["report_id"]]
    assert "psi" in share[0]["values"]


def _recorded(connection: Any, prediction_id: str) -> list[int]:
    return [item.recorded_at for item in revisions_of(connection, [prediction_id])[prediction_id]]


def test_a_full_queue_of_pending_outcomes_is_said(start: Start) -> None:
    """Beyond ``outcomes.max_pending`` a single outcome is 503, one of a list has the reason, and both are counted."""
    client = start("text", outcomes={"unknown": "hold", "max_pending": 2})
    reports = [client.post("/outcome", {"prediction_id": name, "outcome": "no"}) for name in ("a", "b", "c")]
    listed = client.post("/outcome", {"outcomes": [{"prediction_id": "d", "outcome": "no"}]}).json()

    assert [answer.status_code for answer in reports] == [200, 200, 503]
    assert "outcomes.max_pending" in reports[2].json()["detail"]
    assert reports[2].headers["retry-after"]
    assert (listed["results"][0]["status"], listed["counts"]) == ("unknown", {"unknown": 1})
    assert "outcomes.max_pending" in listed["results"][0]["detail"]
    assert samples(client.get("/metrics").text)["ml_outcomes_total", (("status", "unknown"),)] == 2


def test_many_revisions_make_no_large_answer(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prediction shows the latest hundred revisions and the number of all; in a list it shows ten."""
    client = start("text")
    predict(client, "p")
    items = [{"prediction_id": "p", "outcome": "no", "value": value, "revise": True} for value in range(150)]
    assert client.post("/outcome", {"outcomes": items}).json()["counts"] == {"matched": 1, "revised": 149}
    one, listed = client.get("/predictions/p").json(), client.get("/predictions").json()["items"][0]

    assert [each["revision"] for each in one["revisions"]] == list(range(51, 151))
    assert [each["revision"] for each in listed["revisions"]] == list(range(141, 151))
    assert one["revision_count"] == listed["revision_count"] == 150
    assert one["outcome"] == listed["outcome"] == one["revisions"][-1]

    monkeypatch.setattr(outcomes, "MAX_REVISIONS", 150)
    answer = client.post("/outcome", items[0])
    assert (answer.status_code, "takes no more" in answer.json()["detail"]) == (409, True)
