"""Realised performance is scikit-learn's, with honest intervals, and alarms for what got worse only."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from app.monitoring.encoding import encode_labels
from app.monitoring.grading import Degradation
from app.monitoring.intervals import spread
from app.monitoring.performance import metrics, performance_report
from app.store.windows import Window
from app.types import SECOND, Json, Label, Micros, ModelSchema, Task

MakeWindow = Callable[..., Window]
LATER = Micros(10**7 * SECOND)
REGRESSION = ModelSchema("m", "1", Task.REGRESSION, ())


def binary(classes: tuple[Label, ...] = (0, 1), positive: Label | None = None) -> ModelSchema:
    """Make a schema of two classes; the last one is positive unless told otherwise."""
    return ModelSchema("m", "1", Task.BINARY, (), classes, classes[-1] if positive is None else positive)


def multiclass(count: int = 3) -> ModelSchema:
    """Make a schema of many classes."""
    return ModelSchema("m", "1", Task.MULTICLASS, (), tuple(f"c{position}" for position in range(count)))


def answers(classes: int, rows: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Draw outcomes, predictions and probabilities of a model that knows something."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.7), rows)
    outcomes = np.array([rng.choice(classes, p=row) for row in probabilities])
    return outcomes, probabilities.argmax(axis=1), probabilities


def report(window: Window, schema: ModelSchema, baseline: dict[str, float | None] | None, **others: Any) -> Json:
    """Judge a window long after its outcomes came."""
    return performance_report(schema, baseline, window, Degradation(alpha=1e-4), now=LATER, **others)


def labelled(make_window: MakeWindow, hits: int, rows: int, classes: Sequence[Label] = (0, 1)) -> Window:
    """Build a window in which the model was right so many times."""
    truth = [classes[row % 2] for row in range(rows)]
    said = [classes[row % 2] if row < hits else classes[1 - row % 2] for row in range(rows)]
    return make_window([()] * rows, predictions=said, outcomes=truth)


@pytest.mark.parametrize("positive", [0, 1])
def test_binary_metrics_are_scikit_learns(positive: int) -> None:
    """All binary metrics are scikit-learn's of the positive class, whichever it is."""
    truth, said, shares = answers(2, 500, seed=1)
    expected = {
        "accuracy": sk.accuracy_score(truth, said),
        "precision": sk.precision_score(truth, said, pos_label=positive),
        "recall": sk.recall_score(truth, said, pos_label=positive),
        "f1": sk.f1_score(truth, said, pos_label=positive),
        "roc_auc": sk.roc_auc_score(truth == positive, shares[:, positive]),
        "log_loss": sk.log_loss(truth, shares),
    }

    assert expected == pytest.approx(metrics(binary(("a", "b"), "ab"[positive]), truth, said, shares), abs=1e-9)


def test_multiclass_metrics_are_scikit_learns() -> None:
    """All multiclass metrics are scikit-learn's macro averages."""
    truth, said, shares = answers(3, 500, seed=2)
    expected = {
        "accuracy": sk.accuracy_score(truth, said),
        "precision": sk.precision_score(truth, said, average="macro"),
        "recall": sk.recall_score(truth, said, average="macro"),
        "f1": sk.f1_score(truth, said, average="macro"),
        "roc_auc": sk.roc_auc_score(truth, shares, multi_class="ovr"),
        "log_loss": sk.log_loss(truth, shares),
    }

    assert expected == pytest.approx(metrics(multiclass(), truth, said, shares), abs=1e-9)


def test_regression_metrics_are_scikit_learns() -> None:
    """All regression metrics are scikit-learn's."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=300)
    said = truth + rng.normal(size=300)
    expected = {
        "mae": sk.mean_absolute_error(truth, said),
        "rmse": sk.root_mean_squared_error(truth, said),
        "r2": sk.r2_score(truth, said),
    }

    assert expected == pytest.approx(metrics(REGRESSION, truth, said, None), abs=1e-9)


@pytest.mark.parametrize("classes", [(0, 1), (False, True), ("", "x"), (0.0, 1.0)])
def test_falsy_labels_are_labels(make_window: MakeWindow, classes: tuple[Label, Label]) -> None:
    """Outcomes named 0, false or "" count like any other."""
    found = report(labelled(make_window, 80, 100, classes), binary(classes), {"accuracy": 0.8})["realised"]

    assert (found["labelled"], found["coverage"]) == (100, 1.0)
    assert found["metrics"]["accuracy"]["value"] == 0.8


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("rows", [1, 60])
def test_undefined_metrics_are_null(make_window: MakeWindow, task: str, rows: int) -> None:
    """Where only one answer came, what is undefined is null and listed, without warning; the rest stays."""
    schema = {"binary": binary(), "multiclass": multiclass(), "regression": REGRESSION}[task]
    label = schema.classes[0] if schema.classes else 1.0
    shares = [(1 / len(schema.classes),) * len(schema.classes)] * rows if schema.classes else None
    window = make_window([()] * rows, predictions=[label] * rows, outcomes=[label] * rows, probabilities=shares)
    found = report(window, schema, {})
    undefined = {name for name, metric in found["realised"]["metrics"].items() if metric["value"] is None}

    assert {"binary": "roc_auc", "multiclass": "roc_auc", "regression": "r2"}[task] in undefined
    assert undefined == {error["metric"] for error in found["errors"]}
    json.dumps(found, allow_nan=False)


def test_a_drop_is_degraded(make_window: MakeWindow) -> None:
    """Accuracy far below its limit is degraded, with Wilson's interval below the limit."""
    found = report(labelled(make_window, 700, 1000), binary(), {"accuracy": 0.95})
    accuracy = found["realised"]["metrics"]["accuracy"]

    assert found["status"] == accuracy["status"] == "degraded"
    assert accuracy["limit"] == pytest.approx(0.90)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((0.6709, 0.7276), abs=1e-3)


@pytest.mark.parametrize(
    ("hits", "rows", "status"),
    [(95, 100, "ok"), (88, 100, "ok"), (910, 1000, "ok"), (999, 1000, "improved"), (10, 40, "insufficient_data")],
)
def test_no_alarm_without_evidence(make_window: MakeWindow, hits: int, rows: int, status: str) -> None:
    """Within the interval nothing is degraded, better is no alarm, and below fifty labels there is no verdict."""
    found = report(labelled(make_window, hits, rows), binary(), {"accuracy": 0.95})

    assert found["realised"]["metrics"]["accuracy"]["status"] == status
    assert found["status"] == status


@pytest.mark.parametrize(("scale", "status"), [(1.0, "ok"), (2.0, "degraded"), (0.5, "improved")])
def test_errors_are_better_when_lower(make_window: MakeWindow, scale: float, status: str) -> None:
    """In regression a larger error is degraded, and a smaller one improved."""
    rng = np.random.default_rng(1)
    truth = rng.normal(0.0, 10.0, 800)
    said = truth + scale * rng.normal(size=800)
    window = make_window([()] * 800, predictions=said.tolist(), outcomes=truth.tolist())
    baseline: dict[str, float | None] = {"mae": float(np.sqrt(2 / np.pi)), "rmse": 1.0}

    assert report(window, REGRESSION, baseline)["status"] == status


def test_a_quiet_model_raises_no_alarm(make_window: MakeWindow) -> None:
    """Small windows of a model as good as its baseline are not called degraded."""
    rng = np.random.default_rng(2)
    hits = rng.binomial(60, 0.8, 300)
    states = {report(labelled(make_window, int(count), 60), binary(), {"accuracy": 0.8})["status"] for count in hits}

    assert "degraded" not in states


@pytest.mark.parametrize("classes", [2, 3])
def test_intervals_cover_the_truth(classes: int) -> None:
    """Standard errors are those that repeated windows show, for every metric."""
    schema = binary(("a", "b")) if classes == 2 else multiclass(classes)
    windows = [answers(classes, 300, seed=seed) for seed in range(120)]
    values = [metrics(schema, *window) for window in windows]
    around = [spread(schema, *window) for window in windows]
    for name in values[0]:
        numbers = [float(value[name] or 0.0) for value in values]
        bounds = [each.interval(name, value, 0.95) for each, value in zip(around, numbers, strict=True)]
        width = np.mean([high - low for low, high in bounds])

        assert width / (2 * 1.96) == pytest.approx(np.std(numbers), rel=0.25), name


def test_regression_intervals_cover_the_truth() -> None:
    """Standard errors of MAE, RMSE and R squared are those that repeated windows show."""
    rng = np.random.default_rng(5)
    windows = [(truth, truth + rng.normal(size=400)) for truth in rng.normal(0.0, 2.0, (200, 400))]
    values = [metrics(REGRESSION, *window, None) for window in windows]
    around = [spread(REGRESSION, *window, None) for window in windows]
    for name in ("mae", "rmse", "r2"):
        numbers = [float(value[name] or 0.0) for value in values]

        assert np.mean([each.errors[name] for each in around]) == pytest.approx(np.std(numbers), rel=0.2), name


def test_coverage_delay_and_value(make_window: MakeWindow) -> None:
    """The report counts labels, measures their delay, and adds up the business value, all as found."""
    truth: list[Label | None] = [0, None, 1, 0] * 50
    values = [1.5, None, -3.0, 0.0] * 50
    window = make_window([()] * 200, predictions=[0] * 200, outcomes=truth, values=values, delay_s=90)
    found = report(window, binary(), {})

    assert (found["realised"]["labelled"], found["realised"]["coverage"]) == (150, 0.75)
    assert found["realised"]["label_delay_seconds"] == {"p50": 90.0, "p95": 90.0}
    assert found["business"] == {"value_sum": -75.0}
    assert found["realised"]["mature"] is True


def test_a_fresh_window_is_not_mature(make_window: MakeWindow) -> None:
    """A window is mature once its newest row is older than the label delay; without labels it is not."""
    window = labelled(make_window, 100, 100)
    bare = make_window([()] * 100, predictions=[0] * 100)
    newest = window.predicted_at[-1]
    mature = [
        performance_report(binary(), {}, window, Degradation(), now=Micros(newest + wait * SECOND))["realised"][
            "mature"
        ]
        for wait in (59, 60)
    ]

    assert mature == [False, True]
    assert report(bare, binary(), {})["realised"]["mature"] is False


def test_nothing_labelled(make_window: MakeWindow) -> None:
    """Without outcomes, and without rows, the report says what is missing."""
    for rows in (0, 100):
        found = report(make_window([()] * rows, predictions=[0] * rows), binary(), {"accuracy": 0.9})

        assert (found["status"], found["realised"]["metrics"]) == ("insufficient_data", {})
        assert "50" in found["message"]
        assert found["business"] == {"value_sum": None}


def test_an_in_sample_baseline_is_withheld(make_window: MakeWindow) -> None:
    """Metrics are shown without verdict where the baseline is the model's own training data."""
    found = report(labelled(make_window, 600, 1000), binary(), {"accuracy": 1.0}, in_sample=True)

    assert found["status"] == "insufficient_data"
    assert "fitted" in found["message"]
    assert found["realised"]["metrics"]["accuracy"]["value"] == 0.6


def test_impossible_outcomes_are_listed(make_window: MakeWindow) -> None:
    """An outcome that is no class of the model is counted in errors, and in nothing else."""
    window = make_window([()] * 60, predictions=[0] * 60, outcomes=[0] * 59 + ["maybe"])
    found = report(window, binary(), {})

    assert found["realised"]["labelled"] == 59
    assert "1 outcomes" in found["errors"][0]["reason"]


def test_float32_probabilities_are_taken_quietly() -> None:
    """Probabilities that add up to one only nearly, as 32-bit ones do, raise no warning."""
    truth, said, shares = answers(3, 200, seed=4)
    rounded = shares.astype(np.float32).astype(np.float64)

    assert metrics(multiclass(), truth, said, rounded) == pytest.approx(
        metrics(multiclass(), truth, said, shares), rel=1e-5
    )


def test_same_window_same_report(make_window: MakeWindow) -> None:
    """The report is a function of its arguments."""
    window = labelled(make_window, 90, 100)

    assert json.dumps(report(window, binary(), {})) == json.dumps(report(window, binary(), {}))
    assert encode_labels(binary(), window.outcomes).tolist() == [0, 1] * 50
