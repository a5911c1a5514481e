"""Performance metrics as scikit-learn defines them, and the calibration error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.figures.performance import METRIC, TARGET_UNIT, metrics_of
from app.monitoring.reference.columns import finite
from app.statistics import FloatArray, IntArray, normal_quantile
from app.types import ModelSchema, Task

BINS = 10
_STEPS = 200
_FIRST = 2.0
"""A score before all probabilities."""
_EVEN = 0.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """Hold the gap between promised and realised shares, in bins of equal counts.

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
        """Compute the expected calibration error: ``sum_b n_b / n
        share_b - promise_b
        ``.

        Reference: Naeini et al. (2015), AAAI, 2901-2907.

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

    def widened(self, ratio: float) -> Calibration:
        """Give the same interval with this multiple of its variance."""
        return replace(self, errors=self.errors * math.sqrt(ratio))


@dataclass(frozen=True)
class Rows:
    """Encoded outcomes and answers, of which there is at least one; every outcome is known.

    Attributes:
        outcomes: codes of classes, or numbers; ``predictions`` alike, both of shape (rows,).
        probabilities: of shape (rows, classes) in the schema's order; None where the model gave none.
    """

    schema: ModelSchema
    outcomes: NDArray[Any]
    predictions: NDArray[Any]
    probabilities: FloatArray | None

    @property
    def is_binary(self) -> bool:
        """Whether a metric speaks of the positive class alone."""
        return self.schema.task is Task.BINARY

    @property
    def scores(self) -> FloatArray:
        """The probabilities, for a metric that needs them."""
        if self.probabilities is None:
            raise ValueError("the model gave no probabilities")
        return self.probabilities

    @cached_property
    def unknown(self) -> NDArray[np.bool_]:
        """The outcomes of a class that the model lacks.

        It is wrong about them, whatever it says.
        """
        return np.asarray(self.outcomes >= len(self.schema.classes))

    def ranked(self, scores: FloatArray) -> FloatArray:
        """Put the rows of unknown classes before all others in each class.

        There a ranking counts them as wrong.
        """
        return np.where(self.unknown[:, np.newaxis], _FIRST, scores) if self.unknown.any() else scores

    @cached_property
    def given(self) -> FloatArray:
        """The probability of the class that came; an unknown one was given none."""
        places = np.minimum(self.outcomes, len(self.schema.classes) - 1)
        return np.where(self.unknown, 0.0, self.scores[np.arange(len(places)), places])

    @cached_property
    def squares(self) -> FloatArray:
        """The squared distance of the probabilities from what came, by row.

        In a binary task it is half of that.
        """
        came = self.outcomes[:, np.newaxis] == np.arange(len(self.schema.classes))
        if not self.is_binary:
            return np.asarray(np.sum((came - self.scores) ** 2, axis=1) + self.unknown)
        positive = positive_index(self.schema)
        said = self.scores[:, positive]
        return np.where(self.unknown, (1 + said**2 + (1 - said) ** 2) / 2, (came[:, positive] - said) ** 2)

    @cached_property
    def codes(self) -> IntArray:
        """The classes that came or were predicted; in a binary task, the positive one alone."""
        if self.is_binary:
            return np.array([positive_index(self.schema)])
        return np.union1d(self.outcomes, self.predictions)

    @cached_property
    def counts(self) -> tuple[IntArray, IntArray, IntArray]:
        """Rows that are rightly predicted as a class, that are of it, and that are predicted as it.

        One entry for each of :attr:`codes`.
        """
        actual, said = (labels[:, np.newaxis] == self.codes for labels in (self.outcomes, self.predictions))
        return (actual & said).sum(axis=0), actual.sum(axis=0), said.sum(axis=0)

    @property
    def of_no_rows(self) -> float:
        """The share of a class without rows.

        An average takes it as a miss; the positive class alone has none.
        """
        return math.nan if self.is_binary else 0.0


def metrics(
    schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any], probabilities: FloatArray | None
) -> dict[str, float | None]:
    """Compute each metric of the table that the task has; None where one is undefined.

    Takes what :func:`encode_labels` and :func:`encode_probabilities` give, at least one row, each known. Precision,
    recall, specificity and F1 are the positive class's in a binary task, else macro averages, as are ROC AUC
    (one-versus-rest) and average precision. ``bias`` is the mean of prediction minus outcome.

    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=("no", "yes"), positive="yes")
    >>> found = metrics(schema, np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), None)
    >>> found["accuracy"], found["recall"], found["specificity"]
    (0.75, 0.666..., 1.0)
    """
    unit = unit_of(schema, outcomes, predictions)
    if unit != 1.0:
        found = metrics(schema, outcomes / unit, predictions / unit, probabilities)
        sized = {name for name, value in found.items() if METRIC[name].unit == TARGET_UNIT and value is not None}
        with np.errstate(over="ignore"):
            shares = finite(_mape(Rows(schema, outcomes, predictions, probabilities)))
        return {**found, **{name: finite((found[name] or 0.0) * unit) for name in sized}, "mape": shares}
    rows = Rows(schema, outcomes, predictions, probabilities)
    return {
        metric.name: finite(VALUES[metric.name](rows))
        for metric in metrics_of(schema.task)
        if probabilities is not None or not metric.needs_probabilities
    }


COMPUTABLE = (1e-45, 1e45)
"""Sizes of numbers whose sixth powers, which the skewness of a squared error has, a double holds."""


def unit_of(schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any]) -> float:
    """A power of two near a regression's largest number; 1 where its powers can be computed."""
    if schema.task is not Task.REGRESSION or not len(outcomes):
        return 1.0
    largest = float(max(np.abs(outcomes).max(), np.abs(predictions).max()))
    low, high = COMPUTABLE
    if largest == 0 or low < largest < high or not math.isfinite(largest):
        return 1.0
    return math.ldexp(1.0, math.frexp(largest)[1] - 1)


def positive_index(schema: ModelSchema) -> int:
    """Find the position of the positive class; the last one where the schema names none."""
    return len(schema.classes) - 1 if schema.positive is None else schema.classes.index(schema.positive)


def promises(
    schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Give the probability that calibration judges, and whether it came true.

    It is that of the positive class, or the highest. A class that the model lacks counts against what was promised.
    """
    if schema.task is Task.BINARY:
        positive = positive_index(schema)
        promised = probabilities[:, positive]
        against = (outcomes >= len(schema.classes)) & (promised < _EVEN)
        return promised, (outcomes == positive) | against
    return probabilities.max(axis=1), outcomes == probabilities.argmax(axis=1)


def _mean(values: NDArray[Any] | Sequence[float]) -> float:
    return float(np.mean(values))


def _shares(hits: NDArray[Any], rows: NDArray[Any], none: float) -> FloatArray:
    """Divide; ``none`` where there are no rows."""
    shares: FloatArray = np.divide(hits, rows, out=np.full(len(hits), none), where=rows > 0)
    return shares


def _accuracy(rows: Rows) -> float:
    return _mean(rows.outcomes == rows.predictions)


def _precision(rows: Rows) -> float:
    hits, _, said = rows.counts
    return _mean(_shares(hits, said, rows.of_no_rows))


def _recall(rows: Rows) -> float:
    hits, came, _ = rows.counts
    return _mean(_shares(hits, came, rows.of_no_rows))


def _specificity(rows: Rows) -> float:
    """Average over the model's own classes.

    A class that it lacks is never predicted, which is no merit.
    """
    hits, came, said = rows.counts
    count = len(rows.outcomes)
    missed = int((rows.unknown & (rows.predictions != rows.codes[0])).sum()) if rows.is_binary else 0
    shares = _shares(count - came - said + hits - missed, count - came, math.nan)
    return _mean(shares[rows.codes < len(rows.schema.classes)])


def _f1(rows: Rows) -> float:
    hits, came, said = rows.counts
    return _mean(_shares(2 * hits, came + said, rows.of_no_rows))


def _balanced_accuracy(rows: Rows) -> float:
    present, places, counts = np.unique(rows.outcomes, return_inverse=True, return_counts=True)
    right = np.bincount(places[rows.outcomes == rows.predictions], minlength=len(present))
    return _mean(right / counts)


def _roc_auc(rows: Rows) -> float:
    # Rounded to 32 bits, a model's probabilities add up to 1 only nearly.
    scores = rows.scores if rows.is_binary else rows.scores / rows.scores.sum(axis=1, keepdims=True)
    return _of_ranking(rows, rows.ranked(scores), _area)


def _average_precision(rows: Rows) -> float:
    return _of_ranking(rows, rows.ranked(rows.scores), _area_of_steps)


def _of_ranking(rows: Rows, scores: FloatArray, area: Callable[[FloatArray, FloatArray], float]) -> float:
    """Average an area over the classes, each against the rest.

    Of two classes it is the positive one's. NaN until each has come.
    """
    classes = len(rows.schema.classes)
    if len(np.unique(rows.outcomes[~rows.unknown])) < classes:
        return math.nan
    watched = [positive_index(rows.schema)] if rows.is_binary else range(classes)
    return _mean([area(*_threshold_counts(rows.outcomes == code, scores[:, code])) for code in watched])


def _threshold_counts(actual: NDArray[np.bool_], scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """True and false positives at each distinct score, the highest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(actual[order], dtype=np.float64)[last]
    return hits, 1 + last - hits


def _area(hits: FloatArray, misses: FloatArray) -> float:
    """Area under the ROC curve, by trapezoids between its corners."""
    if len(hits) > 2:  # noqa: PLR2004 - two points have no corner between them
        corner = (np.diff(misses, 2) != 0) | (np.diff(hits, 2) != 0)
        kept = np.concatenate([[True], corner, [True]])
        hits, misses = hits[kept], misses[kept]
    above, right = (np.append(0.0, side) / side[-1] for side in (hits, misses))
    return float(np.trapezoid(above, right))


def _area_of_steps(hits: FloatArray, misses: FloatArray) -> float:
    """Sum the precisions, each weighted by the rise of the recall.

    This is the area under the steps of the curve.
    """
    precision, recall = (hits / (hits + misses))[::-1], np.append((hits / hits[-1])[::-1], 0.0)
    return max(0.0, -float(np.sum(np.diff(recall) * precision)))


def _log_loss(rows: Rows) -> float:
    smallest = np.finfo(np.float64).eps
    return _mean(-np.log(np.clip(rows.given, smallest, 1 - smallest)))


def _brier(rows: Rows) -> float:
    return _mean(rows.squares)


def _calibration_error(rows: Rows) -> float:
    return Calibration.of(*promises(rows.schema, rows.outcomes, rows.scores)).value


def _mae(rows: Rows) -> float:
    return _mean(np.abs(rows.predictions - rows.outcomes))


def _rmse(rows: Rows) -> float:
    return math.sqrt(_mean((rows.outcomes - rows.predictions) ** 2))


def _mape(rows: Rows) -> float:
    sizes = np.maximum(np.abs(rows.outcomes), np.finfo(np.float64).eps)
    return _mean(np.abs(rows.predictions - rows.outcomes) / sizes)


def _r2(rows: Rows) -> float:
    outcomes = rows.outcomes
    if len(outcomes) < 2 or not np.ptp(outcomes) > 0:  # noqa: PLR2004 - one row has no variance
        return math.nan
    return float(1 - np.sum((outcomes - rows.predictions) ** 2) / np.sum((outcomes - outcomes.mean()) ** 2))


def _bias(rows: Rows) -> float:
    return _mean(rows.predictions - rows.outcomes)


VALUES: Mapping[str, Callable[[Rows], float]] = {
    "accuracy": _accuracy,
    "precision": _precision,
    "recall": _recall,
    "specificity": _specificity,
    "f1": _f1,
    "balanced_accuracy": _balanced_accuracy,
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "log_loss": _log_loss,
    "brier": _brier,
    "calibration_error": _calibration_error,
    "mae": _mae,
    "rmse": _rmse,
    "mape": _mape,
    "r2": _r2,
    "bias": _bias,
}
"""What computes each metric of :data:`app.figures.performance.PERFORMANCE_METRICS`; NaN where it is undefined."""
