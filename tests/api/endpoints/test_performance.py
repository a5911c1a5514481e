"""The reported performance is what scikit-learn says of the exported rows, whatever happened to the outcomes."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from app.types import Json, Label
from tests.api.conftest import Start
from tests.support.application import Client, samples
from tests.support.models.tasks import Fitted

MISSING, DUPLICATE, REVISED = 7, 5, 3
"""Every so many rows have no outcome, have it twice, have it replaced."""


def fill(client: Client, fitted: Fitted) -> None:
    """Predict every row; report some outcomes in two requests, some twice, some wrongly at first."""
    rng = random.Random(1)
    labels: list[Label] = fitted.data["y"].tolist()
    ids = [f"row-{place}" for place in range(len(labels))]
    assert client.post("/predict", {"instances": fitted.rows, "prediction_ids": ids}).status_code == 200
    truth = [_noisy(label, labels, rng) for label in labels]
    items = [{"prediction_id": name, "outcome": label, "value": 1.0} for name, label in zip(ids, truth, strict=True)]
    sent = [item for place, item in enumerate(items) if place % MISSING]
    wrong = [{**item, "outcome": rng.choice(labels), "revise": True} for item in sent[::REVISED]]
    for part in (wrong, [{**item, "revise": True} for item in sent], sent[::DUPLICATE]):
        answer = client.post("/outcome", {"outcomes": part}).json()["counts"]
        assert set(answer) <= {"matched", "revised", "duplicate"}


def _noisy(label: Label, labels: list[Label], rng: random.Random) -> Label:
    """Mostly the truth, so that the model is neither perfect nor lost."""
    if isinstance(label, float):
        return label + rng.gauss(0, 1)
    return rng.choice(labels) if rng.random() < 0.2 else label


def exported(client: Client) -> list[Json]:
    """Every exported row that has an outcome."""
    text = client.get("/predictions", params={"format": "jsonl", "labelled": True}).text
    return [json.loads(line) for line in text.splitlines()]


def expected(rows: list[Json], classes: list[str]) -> dict[str, float]:
    """The metrics of the exported rows, by scikit-learn."""
    truth: Any = np.array([row["outcome"]["outcome"] for row in rows])
    said: Any = np.array([row["prediction"] for row in rows])
    if not classes:
        return {
            "mae": sk.mean_absolute_error(truth, said),
            "rmse": sk.root_mean_squared_error(truth, said),
            "mape": sk.mean_absolute_percentage_error(truth, said),
            "r2": sk.r2_score(truth, said),
        }
    shares = np.array([[row["probabilities"][name] for name in classes] for row in rows])
    options: Any = {"pos_label": classes[-1]} if len(classes) == 2 else {"average": "macro"}
    scores = shares[:, 1] if len(classes) == 2 else shares
    return {
        "accuracy": sk.accuracy_score(truth, said),
        "precision": sk.precision_score(truth, said, **options),
        "recall": sk.recall_score(truth, said, **options),
        "f1": sk.f1_score(truth, said, **options),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, said),
        "roc_auc": sk.roc_auc_score(truth, scores, multi_class="ovr"),
        "log_loss": sk.log_loss(truth, shares.astype(np.float64), labels=classes),
    }


@pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one:UserWarning")
@pytest.mark.parametrize("name", ["text", "three", "price"])
def test_the_report_is_scikit_learns(start: Start, fitted: dict[str, Fitted], name: str) -> None:
    """With revisions, duplicates and missing labels every metric is scikit-learn's to 1e-9, in Prometheus too."""
    client = start(name)
    fill(client, fitted[name])
    client.post("/checks")
    report = client.get("/performance").json()
    rows = exported(client)
    found = {metric: entry["value"] for metric, entry in report["realised"]["metrics"].items()}
    classes = sorted(set(fitted[name].data["y"])) if name != "price" else []
    wanted = expected(rows, classes)
    shown = samples(client.get("/metrics").text)
    labels = (("basis", "realised"), ("model_name", name), ("model_version", "1"))

    assert {metric: found[metric] for metric in wanted} == pytest.approx(wanted, abs=1e-9)
    assert report["realised"]["labelled"] == len(rows) == report["business"]["value_sum"]
    assert report["realised"]["coverage"] == pytest.approx(len(rows) / len(fitted[name].data))
    for metric, value in wanted.items():
        key = tuple(sorted((*labels, ("metric", metric))))
        assert shown["ml_model_performance", key] == pytest.approx(value)


def test_segments_are_configured_by_name(start: Start, fitted: dict[str, Fitted]) -> None:
    """A categorical feature and a key of the context make segments; an unknown name is a key that no row has."""
    client = start("mixed", performance={"segments": ["channel", "region", "nothing"]})
    rows = fitted["mixed"].rows
    ids = [f"row-{place}" for place in range(len(rows))]
    contexts = [{"region": "EU" if place % 2 else "US"} for place in range(len(rows))]
    client.post("/predict", {"instances": rows, "prediction_ids": ids, "contexts": contexts})
    truth = fitted["mixed"].data["y"].tolist()
    client.post(
        "/outcome",
        {"outcomes": [{"prediction_id": name, "outcome": label} for name, label in zip(ids, truth, strict=True)]},
    )
    client.post("/checks")
    segments = client.get("/performance").json()["segments"]

    assert set(segments["channel"]) == {"web", "shop", "phone"}
    assert sum(entry["labelled"] for entry in segments["channel"].values()) == len(rows)
    assert {name: entry["labelled"] for name, entry in segments["region"].items()} == {"EU": 120, "US": 120}
    assert segments["region"]["EU"]["metrics"]["accuracy"]["baseline"] is None
    assert segments["channel"]["web"]["metrics"]["accuracy"]["baseline"] is not None
    assert "nothing" not in segments
