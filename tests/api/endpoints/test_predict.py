"""``POST /predict``: scikit-learn's own answers, in every form of a request."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from app.bundling import build_bundle
from app.types import label_key
from tests.api.conftest import Start
from tests.support.application import Client, client_of, make_config, samples
from tests.support.models import bundles
from tests.support.models.tasks import Fitted


@pytest.mark.parametrize("name", ["zero_one", "boolean", "text", "blank", "three", "price", "mixed"])
def test_answers_are_those_of_scikit_learn(name: str, start: Start, fitted: dict[str, Fitted]) -> None:
    """One row, many rows, by name or in order: label and probabilities are the model's own, of any type of label."""
    client, model = start(name), fitted[name]
    rows = model.rows[:12]
    labels, probabilities = model.answers(rows)

    bodies = [{"instances": rows}, {"instances": [list(row.values()) for row in rows]}]
    answered = [client.post("/predict", body).json()["predictions"] for body in bodies]
    answered += [
        [client.post("/predict", {"features": row}).json() for row in rows],
        [client.post("/predict", {"features": list(row.values())}).json() for row in rows],
    ]

    for answers in answered:
        assert [answer["prediction"] for answer in answers] == pytest.approx(labels) if name == "price" else labels
        assert [type(answer["prediction"]) for answer in answers] == [type(label) for label in labels]
        if probabilities is not None:
            keys = [label_key(label) for label in model.model.classes_.tolist()]
            for answer, expected in zip(answers, probabilities, strict=True):
                assert answer["probabilities"] == pytest.approx(dict(zip(keys, expected, strict=True)), abs=1e-12)
        else:
            assert all("probabilities" not in answer for answer in answers)


def test_the_order_of_fields_does_not_matter(mixed: Client, fitted: dict[str, Fitted]) -> None:
    """Named features may come in any order."""
    row = fitted["mixed"].rows[1]
    turned = dict(reversed(row.items()))

    there = mixed.post("/predict", {"features": row}).json()["probabilities"]

    assert mixed.post("/predict", {"features": turned}).json()["probabilities"] == there


def test_what_was_sent_is_stored(mixed: Client, fitted: dict[str, Fitted]) -> None:
    """Features, context, answer and time of a prediction are found under its id."""
    row = fitted["mixed"].rows[2]
    context = {"region": "EU", "trial": True, "weight": 1.5, "note": None, "colon": "a: b"}
    answer = mixed.post("/predict", {"features": row, "prediction_id": "stored-1", "context": context}).json()
    stored = mixed.get("/predictions/stored-1").json()

    assert answer["prediction_id"] == "stored-1"
    assert stored["features"] == row
    assert stored["context"] == context
    assert stored["prediction"] == answer["prediction"]
    assert stored["probabilities"] == answer["probabilities"]
    assert stored["predicted_at"].endswith("Z")
    assert stored["outcome"] is None
    assert stored["revisions"] == []


def test_contexts_belong_to_their_instances(mixed: Client, fitted: dict[str, Fitted]) -> None:
    """``contexts`` has one entry an instance; ``context`` stands for all of them."""
    rows = fitted["mixed"].rows[:2]
    mixed.post("/predict", {"instances": rows, "prediction_ids": ["c1", "c2"], "contexts": [{"at": 1}, None]})
    mixed.post("/predict", {"instances": rows, "prediction_ids": ["c3", None], "context": {"at": 2}})

    found = [mixed.get(f"/predictions/{name}").json()["context"] for name in ("c1", "c2", "c3")]

    assert found == [{"at": 1}, None, {"at": 2}]


@pytest.mark.parametrize(
    "body",
    [
        {"features": {"age": 30, "income": 1.0, "channel": "instances", "member": True}},
        {
            "features": {"age": 30, "income": 1.0, "channel": "web", "member": True},
            "context": {"instances": "instances"},
        },
    ],
)
def test_a_value_may_look_like_a_key(mixed: Client, body: object) -> None:
    """A row that holds the text "instances" is one row all the same."""
    assert mixed.post("/predict", body).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"age": 30.5},
        {"age": -7},
        {"income": None},
        {"income": 1e308},
        {"channel": "fax"},
        {"channel": ""},
        {"age": 10**15},
    ],
    ids=str,
)
def test_the_unusual_is_monitored_and_not_refused(mixed: Client, fitted: dict[str, Fitted], change: object) -> None:
    """Fractions for whole numbers, values out of bounds, unseen categories, missing values the model takes: 200."""
    assert mixed.post("/predict", {"features": {**fitted["mixed"].rows[1], **change}}).status_code == 200  # type: ignore[dict-item]


def test_gzip_is_read(mixed: Client, fitted: dict[str, Fitted]) -> None:
    """A compressed body is as good as a plain one."""
    body = json.dumps({"features": fitted["mixed"].rows[1]}).encode()

    answer = mixed.raw("/predict", gzip.compress(body), **{"content-encoding": "gzip"})

    assert answer.status_code == 200


def test_a_replay_gives_the_first_answer(start: Start, fitted: dict[str, Fitted]) -> None:
    """The same id with the same features gives the same answer and no second row, also as a part of many."""
    client, (row, other) = start("mixed"), fitted["mixed"].rows[:2]
    first = client.post("/predict", {"features": row, "prediction_id": "one"})
    again = client.post("/predict", {"features": list(row.values()), "prediction_id": "one"})
    many = client.post("/predict", {"instances": [other, row], "prediction_ids": [None, "one"]})

    assert again.json() == first.json()
    assert many.json()["predictions"][1] == {
        key: first.json()[key] for key in ("prediction_id", "prediction", "probabilities")
    }
    assert client.rows == 2
    counted = samples(client.get("/metrics").text)
    model = (("model_name", "mixed"), ("model_version", "1"))
    for kind in ("realtime", "batch"):
        for status in ("ok", "replayed"):
            labels = (*model, ("prediction_type", kind), ("status", status))
            assert counted["ml_predictions_total", labels] == 1, (kind, status)


def test_an_id_with_other_features_is_a_conflict(start: Start, fitted: dict[str, Fitted]) -> None:
    """The same id with other features is answered 409, and the first row stays as it was."""
    client, (row, other) = start("mixed"), fitted["mixed"].rows[:2]
    client.post("/predict", {"features": row, "prediction_id": "one"})

    refused = client.post("/predict", {"instances": [other, other], "prediction_ids": ["two", "one"]})

    assert refused.status_code == 409
    assert client.get("/predictions/one").json()["features"] == row
    assert client.rows == 1


def test_a_replay_speaks_of_its_own_version(tmp_path: Path, fitted: dict[str, Fitted]) -> None:
    """After a new version with other classes took over, a replay gives the old answer with the old classes."""
    models = tmp_path / "models"
    (models / "m").mkdir(parents=True)
    for version, name in (("1", "three"), ("2", "text")):
        made = fitted[name]
        holdout = bundles.unseen(made.data)
        build_bundle(made.model, data=made.data, holdout=holdout, target="y", name="m", version=version, models=models)
    row = {"a": 0.5, "b": 0.0, "c": 0.0}
    body = {"features": row, "prediction_id": "old"}
    with client_of(make_config(tmp_path, models, "m/1")) as client:
        first = client.post("/predict", body).json()
    with client_of(make_config(tmp_path, models, "m")) as client:
        again = client.post("/predict", body).json()
        many = client.post("/predict", {"instances": [row, row], "prediction_ids": ["old", "new"]}).json()

    assert again == first
    assert many["model_version"] == "2"
    assert [answer.get("model_version") for answer in many["predictions"]] == ["1", None]
    assert [sorted(answer["probabilities"]) for answer in many["predictions"]] == [["a", "b", "c"], ["no", "yes"]]


def test_a_version_can_be_named(mixed: Client, fitted: dict[str, Fitted]) -> None:
    """``?model_version=`` takes a loaded version; any other is 404."""
    body = {"features": fitted["mixed"].rows[1]}

    assert mixed.post("/predict", body, params={"model_version": "1"}).status_code == 200
    assert mixed.post("/predict", body, params={"model_version": "9"}).status_code == 404
