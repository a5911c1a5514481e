"""Every metric is scikit-learn's, for binary, multiclass and regression tasks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from app.figures.performance import METRIC
from app.monitoring.performance.metrics import metrics
from app.monitoring.performance.report import by_class
from app.monitoring.performance.scoring import Measured, Scored
from app.monitoring.performance.standard_errors import spread
from tests.support.monitoring.labelled_windows import REGRESSION, binary, draw, multiclass


@pytest.mark.parametrize("positive", [0, 1])
def test_binary_metrics_are_scikit_learns(positive: int) -> None:
    """All binary metrics are scikit-learn's of the positive class, whichever it is."""
    truth, said, shares = draw(2, 500, seed=1)
    expected = {
        "accuracy": sk.accuracy_score(truth, said),
        "precision": sk.precision_score(truth, said, pos_label=positive),
        "recall": sk.recall_score(truth, said, pos_label=positive),
        "specificity": sk.recall_score(truth, said, pos_label=1 - positive),
        "f1": sk.f1_score(truth, said, pos_label=positive),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, said),
        "roc_auc": sk.roc_auc_score(truth == positive, shares[:, positive]),
        "average_precision": sk.average_precision_score(truth == positive, shares[:, positive]),
        "log_loss": sk.log_loss(truth, shares),
        "brier": sk.brier_score_loss(truth == positive, shares[:, positive]),
    }
    found = metrics(binary(("a", "b"), "ab"[positive]), truth, said, shares)

    assert found.pop("calibration_error") is not None
    assert expected == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("digits", [0, 1, 2])
def test_tied_scores_are_ranked_as_by_scikit_learn(digits: int) -> None:
    """Rows of one score are one step of both curves, whichever way the rows came."""
    truth, said, shares = draw(2, 500, seed=5)
    scores = shares[:, 1].round(digits)
    found = metrics(binary(), truth, said, np.column_stack([1 - scores, scores]))

    assert found["roc_auc"] == sk.roc_auc_score(truth, scores)
    assert found["average_precision"] == sk.average_precision_score(truth, scores)


def test_the_confusion_matrix_is_scikit_learns() -> None:
    """Truths go down, and predictions across."""
    truth, said, shares = draw(3, 500, seed=6)
    found = by_class(Scored(multiclass(), truth, said, shares))

    assert found["confusion_matrix"]["counts"] == sk.confusion_matrix(truth, said).tolist()


def test_calibration_error_is_the_mean_gap_of_the_calibration_curve() -> None:
    """The calibration error weighs the gaps of scikit-learn's calibration curve, over bins of equal counts."""
    truth, said, shares = draw(2, 500, seed=1)
    came, promised = calibration_curve(truth, shares[:, 1], n_bins=10, strategy="quantile")

    found = metrics(binary(), truth, said, shares)["calibration_error"]

    assert found == pytest.approx(np.mean(np.abs(came - promised)), abs=1e-9)


def test_multiclass_metrics_are_scikit_learns() -> None:
    """All multiclass metrics are scikit-learn's macro averages."""
    truth, said, shares = draw(3, 500, seed=2)
    expected = {
        "accuracy": sk.accuracy_score(truth, said),
        "precision": sk.precision_score(truth, said, average="macro"),
        "recall": sk.recall_score(truth, said, average="macro"),
        "specificity": np.mean([sk.recall_score(truth != code, said != code) for code in range(3)]),
        "f1": sk.f1_score(truth, said, average="macro"),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, said),
        "roc_auc": sk.roc_auc_score(truth, shares, multi_class="ovr"),
        "average_precision": sk.average_precision_score(truth, shares),
        "log_loss": sk.log_loss(truth, shares),
        "brier": sk.brier_score_loss(truth, shares),
    }
    found = metrics(multiclass(), truth, said, shares)

    assert found.pop("calibration_error") is not None
    assert expected == pytest.approx(found, abs=1e-9)


def test_regression_metrics_are_scikit_learns() -> None:
    """All regression metrics are scikit-learn's; bias is the mean of prediction minus outcome."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=300)
    said = truth + rng.normal(0.1, 1.0, size=300)
    expected = {
        "mae": sk.mean_absolute_error(truth, said),
        "rmse": sk.root_mean_squared_error(truth, said),
        "mape": sk.mean_absolute_percentage_error(truth, said),
        "r2": sk.r2_score(truth, said),
        "bias": float(np.mean(said - truth)),
    }

    assert expected == pytest.approx(metrics(REGRESSION, truth, said, None), abs=1e-9)


def test_float32_probabilities_are_taken_quietly() -> None:
    """Probabilities that add up to one only nearly, as 32-bit ones do, raise no warning."""
    truth, said, shares = draw(3, 200, seed=4)
    rounded = shares.astype(np.float32).astype(np.float64)

    assert metrics(multiclass(), truth, said, rounded) == pytest.approx(
        metrics(multiclass(), truth, said, shares), rel=1e-5
    )


def test_a_class_that_never_came_is_no_warning() -> None:
    """A predicted class without outcomes leaves the macro averages defined, and the rankings not."""
    found = metrics(multiclass(), np.array([0, 1, 0, 1]), np.array([0, 2, 0, 1]), np.full((4, 3), 1 / 3))

    assert found["balanced_accuracy"] == 0.75
    assert (found["roc_auc"], found["average_precision"]) == (None, None)


@pytest.mark.parametrize("classes", [2, 3])
def test_an_unknown_class_is_wrong_in_every_metric(classes: int) -> None:
    """Right answers whose truth turns out to be of a class that the model lacks make each metric worse."""
    calibrated, said, shares = draw(classes, 400, seed=7)
    every_fourth = np.arange(400) % 4 == 0
    truth = np.where(every_fourth, said, calibrated)
    strange = np.where(every_fourth, classes, truth)
    schema = binary() if classes == 2 else multiclass()
    right, found = metrics(schema, truth, said, shares), metrics(schema, strange, said, shares)
    intervals = spread(schema, strange, said, shares, found)

    assert found["accuracy"] == sk.accuracy_score(strange, said)
    for name, value in found.items():
        before, better = right[name], METRIC[name].better
        assert value is not None
        assert before is not None
        if (classes, name) != (2, "recall"):  # the positive class itself is found as before
            assert value > before if better == "lower" else value < before, name
        low, high = intervals[name].bounds(0.95)
        assert low - 1e-9 <= value <= high + 1e-9, name


def test_labels_of_unknown_classes_count_as_scikit_learn_counts_them() -> None:
    """Macro averages over the labels hold each unknown class as one that is never predicted."""
    truth, said, shares = draw(3, 500, seed=8)
    truth = np.where(np.arange(500) % 9 == 0, 3, truth)
    truth = np.where(np.arange(500) % 20 == 1, 4, truth)
    found = metrics(multiclass(), truth, said, shares)

    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, said))
    assert found["precision"] == pytest.approx(sk.precision_score(truth, said, average="macro", zero_division=0))
    assert found["recall"] == pytest.approx(sk.recall_score(truth, said, average="macro", zero_division=0))
    assert found["f1"] == pytest.approx(sk.f1_score(truth, said, average="macro", zero_division=0))
    seen = [sk.recall_score(truth == code, said == code) for code in np.unique(truth)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(seen))


@pytest.mark.parametrize("unit", [2.0**-560, 2.0**560, 2.0**1018])
def test_the_size_of_the_numbers_changes_no_metric(unit: float) -> None:
    """Outcomes whose squares no double holds give the metrics of ordinary ones, in their unit."""
    rng = np.random.default_rng(5)
    truth, noise = rng.normal(10, 3, 400), rng.normal(0, 1, 400)
    plain, sized = (Scored(REGRESSION, truth * each, (truth + noise) * each, None).measure() for each in (1.0, unit))

    for name, factor in {"mae": unit, "rmse": unit, "bias": unit, "r2": 1.0, "mape": 1.0}.items():
        if name == "mape" and unit < 1:  # its denominator has a floor
            continue
        assert figures(sized[name]) == pytest.approx([each * factor for each in figures(plain[name])], rel=1e-6)


def figures(measured: Measured) -> list[float]:
    """The value of a metric, and the bounds of its interval."""
    assert measured.value is not None
    assert measured.interval is not None
    return [measured.value, *measured.interval.bounds(0.95)]


def test_one_absurd_outcome_is_measured() -> None:
    """One outcome near the largest double leaves every metric a number."""
    truth = np.r_[np.linspace(1, 2, 99), -1.7e308]
    found = Scored(REGRESSION, truth, np.ones(100), None).measure()

    assert all(each.value is not None and np.isfinite(each.value) for each in found.values())
    assert metrics(REGRESSION, truth, np.ones(100), None) == {name: each.value for name, each in found.items()}
    assert found["mae"].value == pytest.approx(1.7e306)
