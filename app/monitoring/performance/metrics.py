"""Performance metrics, calibration error among them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.monitoring.reference.columns import finite
from app.statistics import FloatArray, normal_quantile
from app.types import ModelSchema, Task

BINS = 10
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Calibration:
    """The gap between the share that came and the mean of what was promised, in bins of equal counts.

    Attributes:
        weights: share of the rows in each bin.
        gaps: share that came minus mean promise, by bin.
        errors: their standard errors.
    """

    weights: FloatArray
    gaps: FloatArray
    errors: FloatArray

    @classmethod
    def of(cls, promised: FloatArray, came: NDArray[np.bool_]) -> Calibration:
        """Compare probabilities with what came true; at least one row.

        The bins are those of ``sklearn.metrics.calibration_curve`` with ``strategy="quantile"``.
        """
        edges = np.quantile(promised, np.linspace(0, 1, BINS + 1)[1:-1])
        place = np.searchsorted(edges, promised)
        rows = np.bincount(place, minlength=BINS)
        used = rows > 0
        hits, sums = (np.bincount(place, weights=each, minlength=BINS)[used] for each in (came, promised))
        rows = rows[used]
        share = (hits + 0.5) / (rows + 1)
        return cls(rows / len(promised), (hits - sums) / rows, np.sqrt(share * (1 - share) / rows))

    @property
    def value(self) -> float:
        """Expected calibration error: ``sum_b n_b / n |share_b - promise_b|``, Naeini et al. (2015), AAAI, 2901-2907.

        >>> Calibration.of(np.full(10, 0.5), np.arange(10) < 7).value
        0.2
        """
        return float(np.sum(self.weights * np.abs(self.gaps)))

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval of the true error.

        Chance alone opens gaps, so that the value found lies above the truth. Kept are the true errors under which it
        is no surprise: gaps of the shape found, levelled by their noise and scaled from none to large, each seen
        through a normal law, whose absolute value has the mean and variance of Leone et al. (1961),
        doi:10.2307/1266560.
        """
        shape = np.sqrt(self.gaps**2 + self.errors**2)
        scale = np.linspace(0, 1, _STEPS)[:, np.newaxis] ** 2 * (1 + 20 * self.errors.max()) / shape.max()
        gaps = scale * shape
        ratio = gaps / self.errors
        means = self.errors * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + gaps * (1 - 2 * special.ndtr(-ratio))
        centre = means @ self.weights
        spread = np.sqrt((gaps**2 + self.errors**2 - means**2) @ self.weights**2)
        half = normal_quantile(confidence) * spread
        truth = gaps @ self.weights
        low, high = (float(np.interp(self.value, centre + side, truth)) for side in (half, -half))
        return low, min(max(high, self.value), 1.0)


Values = Mapping[str, float | None]


def metrics(
    schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any], probabilities: FloatArray | None
) -> dict[str, float | None]:
    """Compute the task's metrics; None where one is undefined.

    Takes what :func:`encode_labels` and :func:`encode_probabilities` give, at least one row, each known. Precision,
    recall, specificity and F1 are the positive class's in a binary task, else macro averages, as are ROC AUC
    (one-versus-rest) and average precision. ``bias`` is the mean of prediction minus outcome.

    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=("no", "yes"), positive="yes")
    >>> found = metrics(schema, np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), None)
    >>> found["accuracy"], found["recall"], found["specificity"]
    (0.75, 0.666..., 1.0)
    """
    if schema.task is Task.REGRESSION:
        return _regression(outcomes, predictions)
    found = _labels(schema, outcomes, predictions)
    if probabilities is None:
        return found
    return found | _scores(schema, outcomes, probabilities) | _shares(schema, outcomes, probabilities)


def positive_index(schema: ModelSchema) -> int:
    """Find the position of the positive class; the last one where the schema names none."""
    return len(schema.classes) - 1 if schema.positive is None else schema.classes.index(schema.positive)


def promises(
    schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Pick the probability that calibration judges (the positive class's, or the highest), and if it came true."""
    if schema.task is Task.BINARY:
        positive = positive_index(schema)
        return probabilities[:, positive], outcomes == positive
    return probabilities.max(axis=1), outcomes == probabilities.argmax(axis=1)


def _labels(schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float | None]:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    truth, said, options = outcomes, predictions, {"average": "macro", "zero_division": 0.0}
    if schema.task is Task.BINARY:
        truth, said = (labels == positive_index(schema) for labels in (outcomes, predictions))
        options = {"zero_division": math.nan}
    present = np.unique(outcomes)
    # balanced_accuracy_score by its definition: it warns of classes that were predicted and never came.
    balanced = recall_score(outcomes, predictions, labels=present, average="macro", zero_division=0.0)
    return {
        "accuracy": finite(accuracy_score(outcomes, predictions)),
        "precision": finite(precision_score(truth, said, **options)),
        "recall": finite(recall_score(truth, said, **options)),
        "specificity": finite(_specificity(schema, outcomes, predictions)),
        "f1": finite(f1_score(truth, said, **options)),
        "balanced_accuracy": finite(balanced),
    }


def _specificity(schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any]) -> float:
    """Average the recall of "not this class" over the classes that are named, or over the positive one alone."""
    from sklearn.metrics import recall_score

    watched = np.union1d(outcomes, predictions)
    if schema.task is Task.BINARY:
        watched = np.array([positive_index(schema)])
    shares = [recall_score(outcomes != code, predictions != code, zero_division=math.nan) for code in watched]
    return float(np.mean(shares))


def _scores(schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray) -> dict[str, float | None]:
    """Metrics of the order that probabilities bring rows into; undefined until every class has come."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    codes = range(len(schema.classes))
    if len(np.unique(outcomes)) < len(codes):
        return {"roc_auc": None, "average_precision": None}
    if schema.task is Task.BINARY:
        truth, scores = outcomes == positive_index(schema), probabilities[:, positive_index(schema)]
        return {
            "roc_auc": finite(roc_auc_score(truth, scores)),
            "average_precision": finite(average_precision_score(truth, scores)),
        }
    # Rounded to 32 bits, a model's probabilities add up to 1 only nearly, which scikit-learn may refuse.
    scores = probabilities / probabilities.sum(axis=1, keepdims=True)
    return {
        "roc_auc": finite(roc_auc_score(outcomes, scores, multi_class="ovr", labels=codes)),
        "average_precision": finite(average_precision_score(outcomes, probabilities)),
    }


def _shares(schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray) -> dict[str, float | None]:
    """Metrics of the probabilities' own size."""
    from sklearn.metrics import brier_score_loss, log_loss

    codes = range(len(schema.classes))
    with warnings.catch_warnings():
        # The warning that 32-bit probabilities do not add up to 1: they do, to 32 bits.
        warnings.simplefilter("ignore", UserWarning)
        loss = log_loss(outcomes, probabilities, labels=codes)
        if schema.task is Task.BINARY:
            positive = positive_index(schema)
            brier = brier_score_loss(outcomes == positive, probabilities[:, positive])
        else:
            brier = brier_score_loss(outcomes, probabilities, labels=codes)
    error = Calibration.of(*promises(schema, outcomes, probabilities)).value
    return {"log_loss": finite(loss), "brier": finite(brier), "calibration_error": finite(error)}


def _regression(outcomes: FloatArray, predictions: FloatArray) -> dict[str, float | None]:
    from sklearn.metrics import (
        mean_absolute_error,
        mean_absolute_percentage_error,
        r2_score,
        root_mean_squared_error,
    )

    varied = len(outcomes) > 1 and np.ptp(outcomes) > 0
    return {
        "mae": finite(mean_absolute_error(outcomes, predictions)),
        "rmse": finite(root_mean_squared_error(outcomes, predictions)),
        "mape": finite(mean_absolute_percentage_error(outcomes, predictions)),
        "r2": finite(r2_score(outcomes, predictions)) if varied else None,
        "bias": finite(float(np.mean(predictions - outcomes))),
    }
