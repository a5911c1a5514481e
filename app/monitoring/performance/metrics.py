"""Performance metrics as scikit-learn defines them, and the calibration error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    return (
        found | _order_metrics(schema, outcomes, probabilities) | _probability_metrics(schema, outcomes, probabilities)
    )


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
    binary = schema.task is Task.BINARY
    codes = np.array([positive_index(schema)]) if binary else np.union1d(outcomes, predictions)
    actual, said = (labels[:, np.newaxis] == codes for labels in (outcomes, predictions))
    hits, came, given = ((actual & said).sum(axis=0), actual.sum(axis=0), said.sum(axis=0))
    # An average takes a class without rows as a miss; the positive class alone then has no share.
    none = np.nan if binary else 0.0
    present, places, rows = np.unique(outcomes, return_inverse=True, return_counts=True)
    right = np.bincount(places[outcomes == predictions], minlength=len(present))
    return {
        "accuracy": _mean(outcomes == predictions),
        "precision": _mean(_shares(hits, given, none)),
        "recall": _mean(_shares(hits, came, none)),
        "specificity": _mean(_shares(len(outcomes) - came - given + hits, len(outcomes) - came, np.nan)),
        "f1": _mean(_shares(2 * hits, came + given, none)),
        "balanced_accuracy": _mean(right / rows),
    }


def _mean(values: NDArray[Any] | Sequence[float]) -> float | None:
    """Average; None where it is undefined."""
    return finite(float(np.mean(values)))


def _shares(hits: NDArray[Any], rows: NDArray[Any], none: float) -> FloatArray:
    """Divide; ``none`` where there are no rows."""
    shares: FloatArray = np.divide(hits, rows, out=np.full(len(hits), none), where=rows > 0)
    return shares


def _order_metrics(schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray) -> dict[str, float | None]:
    """Metrics of the order that probabilities bring rows into; undefined until every class has come."""
    codes = range(len(schema.classes))
    if len(np.unique(outcomes)) < len(codes):
        return {"roc_auc": None, "average_precision": None}
    if schema.task is Task.BINARY:
        watched, scores = [positive_index(schema)], probabilities
    else:
        # Rounded to 32 bits, a model's probabilities add up to 1 only nearly.
        watched, scores = list(codes), probabilities / probabilities.sum(axis=1, keepdims=True)
    areas = [_roc_auc(*_threshold_counts(outcomes == code, scores[:, code])) for code in watched]
    precisions = [_average_precision(*_threshold_counts(outcomes == code, probabilities[:, code])) for code in watched]
    return {"roc_auc": _mean(areas), "average_precision": _mean(precisions)}


def _threshold_counts(actual: NDArray[np.bool_], scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """True and false positives at each distinct score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(actual[order], dtype=np.float64)[last]
    return hits, 1 + last - hits


def _roc_auc(hits: FloatArray, misses: FloatArray) -> float:
    """Area under the ROC curve, by trapezoids between its corners."""
    if len(hits) > 2:  # noqa: PLR2004 - two points have no corner between them
        corner = (np.diff(misses, 2) != 0) | (np.diff(hits, 2) != 0)
        kept = np.concatenate([[True], corner, [True]])
        hits, misses = hits[kept], misses[kept]
    above, right = (np.append(0.0, side) / side[-1] for side in (hits, misses))
    return float(np.trapezoid(above, right))


def _average_precision(hits: FloatArray, misses: FloatArray) -> float:
    """Sum of the precisions, each weighted by the rise of the recall: the area of the curve's steps."""
    precision, recall = (hits / (hits + misses))[::-1], np.append((hits / hits[-1])[::-1], 0.0)
    return max(0.0, -float(np.sum(np.diff(recall) * precision)))


def _probability_metrics(
    schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray
) -> dict[str, float | None]:
    """Metrics of the probabilities' own size."""
    certain = np.eye(len(schema.classes))[outcomes]
    smallest = np.finfo(np.float64).eps
    given = np.clip(probabilities[np.arange(len(outcomes)), outcomes], smallest, 1 - smallest)
    if schema.task is Task.BINARY:
        said, came = (side[:, positive_index(schema)] for side in (probabilities, certain))
        brier = np.mean(((1 - came) - (1 - said)) ** 2 + (came - said) ** 2) / 2
    else:
        brier = np.mean(np.sum((certain - probabilities) ** 2, axis=1))
    error = Calibration.of(*promises(schema, outcomes, probabilities)).value
    return {"log_loss": _mean(-np.log(given)), "brier": finite(brier), "calibration_error": finite(error)}


def _regression(outcomes: FloatArray, predictions: FloatArray) -> dict[str, float | None]:
    errors = np.abs(predictions - outcomes)
    squares, sizes = (outcomes - predictions) ** 2, np.maximum(np.abs(outcomes), np.finfo(np.float64).eps)
    varied = len(outcomes) > 1 and np.ptp(outcomes) > 0
    return {
        "mae": _mean(errors),
        "rmse": finite(np.sqrt(np.mean(squares))),
        "mape": _mean(errors / sizes),
        "r2": finite(1 - np.sum(squares) / np.sum((outcomes - outcomes.mean()) ** 2)) if varied else None,
        "bias": _mean(predictions - outcomes),
    }
