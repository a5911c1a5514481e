"""Realised performance is honest: alarms for what got worse only, and a reason where there is no verdict."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.signal import lfilter

from app.monitoring.performance.degradation import Degradation
from app.types import SECOND, Feature, FeatureType, Label, Micros, ModelSchema, Task
from tests.support.monitoring.labelled_windows import (
    REGRESSION,
    accurate,
    alternating,
    binary,
    multiclass,
    reference_of,
    report,
    right,
    window_of,
)


@pytest.mark.parametrize("classes", [(0, 1), (False, True), ("", "x"), (0.0, 1.0)])
def test_falsy_labels_are_labels(classes: tuple[Label, Label]) -> None:
    """Outcomes named 0, false or "" count like any other."""
    found = report(right(80, 100, classes), None, binary(classes))["realised"]

    assert (found["labelled"], found["coverage"]) == (100, 1.0)
    assert found["metrics"]["accuracy"]["value"] == 0.8


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("rows", [1, 60])
def test_undefined_metrics_are_null(task: str, rows: int) -> None:
    """Where only one answer came, what is undefined is null and listed, without warning; the rest stays."""
    schema = {"binary": binary(), "multiclass": multiclass(), "regression": REGRESSION}[task]
    label = schema.classes[0] if schema.classes else 1.0
    shares = [(1 / len(schema.classes),) * len(schema.classes)] * rows if schema.classes else None
    found = report(window_of([label] * rows, [label] * rows, probabilities=shares), None, schema)
    undefined = {name for name, metric in found["realised"]["metrics"].items() if metric["value"] is None}

    assert {"binary": "roc_auc", "multiclass": "roc_auc", "regression": "r2"}[task] in undefined
    assert undefined == {error["metric"] for error in found["errors"]}
    json.dumps(found, allow_nan=False)


def test_a_drop_is_degraded() -> None:
    """Accuracy far below its limit is degraded, with its interval below the limit, since the window's end."""
    found = report(right(700, 1000), accurate(binary(), 0.95))
    accuracy = found["realised"]["metrics"]["accuracy"]

    assert found["status"] == accuracy["status"] == "degraded"
    assert accuracy["limit"] == pytest.approx(0.90)
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((0.6709, 0.7276), abs=1e-3)
    assert accuracy["since"] == found["window"]["to"]


@pytest.mark.parametrize(
    ("hits", "rows", "status"),
    [(95, 100, "ok"), (88, 100, "ok"), (870, 1000, "ok"), (999, 1000, "improved"), (10, 40, "insufficient_data")],
)
def test_no_alarm_without_evidence(hits: int, rows: int, status: str) -> None:
    """Within the allowed degradation nothing is degraded, better is no alarm, and below fifty labels no verdict."""
    found = report(right(hits, rows), accurate(binary(), 0.95))

    assert found["realised"]["metrics"]["accuracy"]["status"] == status
    assert found["status"] == status


@pytest.mark.parametrize(("reference_rows", "status"), [(100, "ok"), (100_000, "degraded")])
def test_the_baselines_own_error_counts(reference_rows: int, status: str) -> None:
    """A drop that is certain against a large reference is none against a small one."""
    found = report(right(785, 1000), accurate(binary(), 0.9, reference_rows))

    assert found["realised"]["metrics"]["accuracy"]["status"] == status


@pytest.mark.parametrize(("scale", "status"), [(1.0, "ok"), (2.0, "degraded"), (0.5, "improved")])
def test_errors_are_better_when_lower(scale: float, status: str) -> None:
    """In regression a larger error is degraded, and a smaller one improved."""
    rng = np.random.default_rng(1)
    truth = rng.normal(0.0, 10.0, 4000)
    noise = rng.normal(size=4000)
    reference = reference_of(REGRESSION, truth.tolist(), (truth + noise).tolist())
    window = window_of((truth + scale * noise[::-1]).tolist(), truth.tolist())

    assert report(window, reference)["status"] == status


@pytest.mark.parametrize("shift", [-0.5, 0.5])
def test_bias_is_worse_to_either_side(shift: float) -> None:
    """Answers that have all moved up, or all down, are degraded, with the limit on that side of the baseline."""
    rng = np.random.default_rng(2)
    truth = rng.normal(0.0, 10.0, 4000)
    noise = rng.normal(size=4000)
    reference = reference_of(REGRESSION, truth.tolist(), (truth + noise).tolist())
    bias = report(window_of((truth + noise + shift).tolist(), truth.tolist()), reference)["realised"]["metrics"]["bias"]

    assert bias["status"] == "degraded"
    assert abs(bias["limit"]) < abs(bias["value"])
    assert np.sign(bias["limit"] - bias["baseline"]) == np.sign(shift)


def test_a_quiet_model_raises_no_alarm() -> None:
    """Small windows of a model as good as its baseline are not called degraded."""
    hits = np.random.default_rng(2).binomial(60, 0.8, 60)
    reference = accurate(binary(), 0.8, 1000)
    states = {report(right(int(count), 60), reference)["status"] for count in hits}

    assert "degraded" not in states


def test_a_degraded_metric_stays_until_its_rows_are_gone() -> None:
    """A window that shares rows with the one that showed a drop keeps it open; the first wholly clear one closes it."""
    reference = accurate(binary(), 0.95)
    bad = report(right(700, 1000), reference)
    shared = report(right(950, 1000, start=500), reference, previous=bad)
    clear = report(right(950, 1000, start=1500), reference, previous=shared)
    states = [each["realised"]["metrics"]["accuracy"] for each in (shared, clear)]

    assert [each["status"] for each in states] == ["degraded", "ok"]
    assert states[0]["since"] == bad["realised"]["metrics"]["accuracy"]["since"]


def test_another_reference_opens_nothing() -> None:
    """A look against another reference is no look before."""
    bad = report(right(700, 1000), accurate(binary(), 0.95)) | {"baseline": {"sha256": "other"}}
    after = report(right(950, 1000, start=500), accurate(binary(), 0.95), previous=bad)

    assert after["status"] == "ok"


def test_coverage_delay_and_value() -> None:
    """The report counts labels, measures their delay, and adds up the business value, all as found."""
    truth: list[Label | None] = [0, None, 1, 0] * 50
    values = [1.5, None, -3.0, 0.0] * 50
    found = report(window_of([0] * 200, truth, values=values, delay_s=90), None)

    assert (found["realised"]["labelled"], found["realised"]["coverage"]) == (150, 0.75)
    assert found["realised"]["label_delay_seconds"] == {"p50": 90.0, "p95": 90.0}
    assert found["realised"]["mature"] is True
    assert (found["business"]["value_sum"], found["business"]["value_mean"]) == (-75.0, -0.5)
    assert found["business"]["value_mean_low"] < -0.5 < found["business"]["value_mean_high"]
    assert found["business"]["by_prediction"]["0"]["value_sum"] == -75.0
    assert found["business"]["by_prediction"]["1"]["value_sum"] is None


def test_a_sum_beyond_all_numbers_is_null_with_its_reason() -> None:
    """Two values of 1e308 have no sum; the report says so, and stays strict JSON."""
    found = report(window_of([0] * 200, [0] * 200, values=[1e308] * 200), None)["business"]

    assert (found["value_count"], found["value_sum"], found["value_mean"]) == (200, None, None)
    assert found["reason"] == found["by_prediction"]["0"]["reason"] == "the sum is beyond the largest number"
    assert "reason" not in found["by_prediction"]["1"]


def test_the_confusion_matrix_and_each_class() -> None:
    """Truths stand down, predictions across; each class has its support, precision and recall with intervals."""
    schema = multiclass()
    found = report(window_of(["c0", "c1", "c1", "c2"], ["c0", "c1", "c0", "c2"]), None, schema)["realised"]

    assert found["confusion_matrix"] == {"labels": ["c0", "c1", "c2"], "counts": [[1, 1, 0], [0, 1, 0], [0, 0, 1]]}
    assert found["classes"]["c0"]["support"] == 2
    assert found["classes"]["c0"]["recall"]["value"] == 0.5
    assert found["classes"]["c1"]["precision"]["low"] < 0.5 < found["classes"]["c1"]["precision"]["high"]


def test_a_fresh_window_is_not_mature() -> None:
    """A window is mature once its newest row is older than the label delay; without labels it is not."""
    window = right(100, 100)
    newest = window.predicted_at[-1]
    mature = [report(window, None, now=Micros(newest + wait * SECOND))["realised"]["mature"] for wait in (59, 60)]

    assert mature == [False, True]
    assert report(window_of([0] * 100, [None] * 100), None)["realised"]["mature"] is False


@pytest.mark.parametrize("rows", [0, 100])
def test_nothing_labelled(rows: int) -> None:
    """Without outcomes, and without rows, the report says what is missing."""
    found = report(window_of([0] * rows, [None] * rows), accurate(binary(), 0.9))

    assert (found["status"], found["realised"]["metrics"]) == ("insufficient_data", {})
    assert "50" in found["message"]
    assert found["business"]["value_sum"] is None


@pytest.mark.parametrize(("in_sample", "says"), [(True, "fitted"), (False, "without baseline")])
def test_without_a_baseline_there_is_no_verdict(in_sample: bool, says: str) -> None:
    """Metrics are shown without verdict where the reference is training data, or has no outcomes."""
    schema = binary()
    truth, said = alternating(1000, 1000)
    reference = reference_of(schema, truth if in_sample else [None] * 1000, said, in_sample=in_sample)
    found = report(right(600, 1000), reference)

    assert found["status"] == "insufficient_data"
    assert says in found["message"]
    assert found["realised"]["metrics"]["accuracy"]["value"] == 0.6
    assert found["realised"]["metrics"]["accuracy"]["baseline"] is None


def test_outcomes_of_an_unknown_class_are_wrong_answers() -> None:
    """A truth that the model cannot give counts, is told with its class, and has its row in the confusion matrix."""
    found = report(window_of([0, 1] * 50, ["fraud_b"] * 12 + [0, 1] * 44), None)
    realised = found["realised"]
    said = "12 % of outcomes are of a class this model does not know: fraud_b"

    assert (realised["labelled"], realised["metrics"]["accuracy"]["value"]) == (100, 0.88)
    assert realised["unknown_classes"] == {"rows": 12, "share": 0.12, "classes": {"fraud_b": 12}, "message": said}
    assert said in [error["reason"] for error in found["errors"]]
    matrix = realised["confusion_matrix"]
    assert (matrix["labels"], matrix["counts"]) == (["0", "1", "fraud_b"], [[44, 0, 0], [0, 44, 0], [6, 6, 0]])
    assert realised["classes"]["1"]["precision"]["value"] == 0.88
    assert "unknown_classes" not in report(window_of([0, 1] * 50, [0, 1] * 50), None)["realised"]


def test_many_unknown_classes_are_told_together() -> None:
    """The most frequent unknown classes are named; beyond twenty, the others are one."""
    truth = [f"n{place}" for place in range(40)] + ["often"] * 20 + [0, 1] * 20
    found = report(window_of([0, 1] * 50, truth), None)["realised"]

    assert found["metrics"]["accuracy"]["value"] == 0.4
    assert len(found["unknown_classes"]["classes"]) == 21
    assert found["unknown_classes"]["classes"]["often"] == 20
    assert found["unknown_classes"]["message"].endswith("often, n0, n1 and 18 more")


def test_impossible_outcomes_are_listed() -> None:
    """Text where a number is due is counted in errors, and in nothing else."""
    found = report(window_of([0.0] * 60, [0.0] * 59 + ["maybe"]), None, REGRESSION)

    assert found["realised"]["labelled"] == 59
    assert "1 outcomes" in found["errors"][0]["reason"]


def test_same_window_same_report() -> None:
    """The report is a function of its arguments."""
    assert json.dumps(report(right(90, 100), None)) == json.dumps(report(right(90, 100), None))


def test_a_segment_is_judged_by_its_own_rows() -> None:
    """A drop in one channel is found there, against the reference's rows of that channel, and the context has none."""
    channel = Feature("channel", FeatureType.CATEGORICAL, categories=("web", "shop"))
    schema = ModelSchema("m", "1", Task.BINARY, (channel,), (0, 1), 1)
    truth, said = alternating(19_000, 20_000)
    rng = np.random.default_rng(4)
    order = rng.permutation(20_000)
    kinds = [("web", "shop")[row % 2] for row in range(20_000)]
    reference = reference_of(
        schema, [truth[row] for row in order], [said[row] for row in order], [(kind,) for kind in kinds]
    )
    good, bad = alternating(950, 1000), alternating(600, 1000)
    window = window_of(
        good[1] + bad[1],
        good[0] + bad[0],
        segments={"channel": ["web"] * 1000 + ["shop"] * 1000, "region": ["EU", None] * 1000},
    )
    found = report(window, reference, limits=Degradation(0.20, 1e-4))

    assert found["realised"]["metrics"]["accuracy"]["status"] == "ok"
    assert {value: entry["status"] for value, entry in found["segments"]["channel"].items()} == {
        "web": "ok",
        "shop": "degraded",
    }
    assert found["status"] == "degraded"
    assert found["segments"]["region"]["EU"]["status"] == "insufficient_data"
    assert (found["segments"]["region"]["EU"]["rows"], list(found["segments"]["region"])) == (1000, ["EU"])


@pytest.mark.parametrize("correlation", [0.9, 0.97])
def test_errors_that_come_in_runs_raise_no_alarm(correlation: float) -> None:
    """Where errors resemble their neighbours and nothing has changed, no window is called degraded."""
    rng = np.random.default_rng(11)
    noise = lfilter([1.0], [1.0, -correlation], rng.normal(size=41_000) * np.sqrt(1 - correlation**2))[1_000:]
    truth = rng.normal(0.0, 3.0, 40_000)
    times = np.arange(10_000)
    said = (truth + noise).tolist()
    reference = reference_of(REGRESSION, truth[:10_000].tolist(), said[:10_000], times=times)
    looks = [slice(start, start + 1_000) for start in range(10_000, 40_000, 1_000)]
    found = [report(window_of(said[look], truth[look].tolist()), reference)["status"] for look in looks]

    assert "degraded" not in found
