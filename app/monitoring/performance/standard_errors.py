"""Standard errors of performance metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.metrics import Calibration, Rows, positive_index, promises
from app.statistics import FloatArray, IntArray, intervals
from app.statistics.intervals import Bounded, Interval, Mean, MeanShare, RootMean, Share, dependent
from app.types import ModelSchema, Task


@dataclass(frozen=True, slots=True)
class Explained:
    """Hold R squared: 1 minus a ratio of two means.

    They are the squared errors and the squared deviations of the same rows.

    The intervals of both means are put together on the scale of their logarithms, with their correlation: the method of
    variance estimates recovery, Zou and Donner (2008), doi:10.1002/sim.3095.
    """

    errors: Mean
    deviations: Mean
    correlation: float

    @classmethod
    def of(cls, squares: FloatArray, deviations: FloatArray) -> Explained:
        """Take the squared errors and the squared deviations from the mean."""
        varied = float(squares.std()) > 0 and float(deviations.std()) > 0
        correlation = float(np.corrcoef(squares, deviations)[0, 1]) if varied else 0.0
        return cls(Mean.of(squares, 0.0), Mean.of(deviations, 0.0), correlation)

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval; where nothing is certain, all that is possible."""
        if not self.errors.value or not self.deviations.value:
            return (1.0, 1.0) if self.deviations.value else (-math.inf, 1.0)
        ratio = self.errors.value / self.deviations.value
        above, below = (_log_sides(mean, confidence) for mean in (self.errors, self.deviations))
        more = _recovered(above[1], below[0], self.correlation)
        less = _recovered(above[0], below[1], self.correlation)
        return 1 - ratio * _exp(more), 1 - ratio * _exp(-less)

    def widened(self, ratio: float) -> Explained:
        """Give the same interval with this multiple of its variance."""
        return replace(self, errors=self.errors.widened(ratio), deviations=self.deviations.widened(ratio))


def _log_sides(mean: Mean, confidence: float) -> tuple[float, float]:
    low, high = mean.bounds(confidence)
    return math.log(mean.value / low) if low > 0 else math.inf, math.log(high / mean.value)


def _recovered(one: float, other: float, correlation: float) -> float:
    if math.inf in (one, other):
        return math.inf
    return math.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0))


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf  # noqa: PLR2004 - beyond the largest float


Flags = NDArray[np.bool_]


class Influence(NamedTuple):
    """The influence of each row on a metric between 0 and 1.

    Beside it stand the rows of the rarest class that the metric speaks of.
    """

    by_row: FloatArray
    rarest: int


def spread(
    schema: ModelSchema,
    outcomes: NDArray[Any],
    predictions: NDArray[Any],
    probabilities: FloatArray | None,
    values: Mapping[str, float | None],
    *,
    ordered: bool = True,
    copies: IntArray | None = None,
) -> dict[str, Interval]:
    """Compute the standard errors of these metrics; undefined ones are left out.

    Rows in order of time count as what they are worth beside their neighbours; others as independent. ``copies`` says
    how often each of the rows before stands there now: copies tell no more than one.

    >>> schema = ModelSchema("m", "1", Task.REGRESSION, ())
    >>> found = spread(schema, np.zeros(4), np.array([1.0, 3.0, 1.0, 3.0]), None, {"mae": 2.0})
    >>> [round(bound, 2) for bound in found["mae"].bounds(0.95)]
    [0.16, 3.84]
    """
    rows = Rows(schema, outcomes, predictions, probabilities)
    found = {name: _interval(name, rows, value) for name, value in values.items() if value is not None}
    return {name: _widened(*each, ordered=ordered, copies=copies) for name, each in found.items()}


def _interval(name: str, rows: Rows, value: float) -> tuple[Interval, FloatArray]:
    """Give the interval of independent rows, and the influence of each."""
    found = INTERVALS[name](rows)
    if isinstance(found, Influence):
        return Bounded(value, intervals.standard_error(found.by_row), found.rarest), found.by_row
    return found, INFLUENCES[name](rows)


def _widened(interval: Interval, influence: FloatArray, *, ordered: bool, copies: IntArray | None) -> Interval:
    """Widen an interval: a row that counts c times adds c squared to the variance, not c."""
    if copies is not None:
        whole = float(np.sum(influence**2))
        influence = copies * influence[np.cumsum(copies) - copies]
        interval = interval.widened(float(np.sum(influence**2)) / whole) if whole else interval
    return dependent(interval, influence) if ordered else interval


def _share(hits: Flags, trials: Flags) -> Share:
    return Share(int((hits & trials).sum()), int(trials.sum()))


def _mean_share(hits: Flags, labels: NDArray[Any], codes: NDArray[Any]) -> MeanShare:
    return MeanShare(tuple(_share(hits, labels == code) for code in codes))


def _accuracy(rows: Rows) -> Interval:
    hits = rows.outcomes == rows.predictions
    return Share(int(hits.sum()), len(hits))


def _balanced_accuracy(rows: Rows) -> Interval:
    return _mean_share(rows.outcomes == rows.predictions, rows.outcomes, np.unique(rows.outcomes))


def _precision(rows: Rows) -> Interval:
    if rows.is_binary:
        actual, said = _positive(rows)
        return _share(actual, said)
    return _mean_share(rows.outcomes == rows.predictions, rows.predictions, rows.codes)


def _recall(rows: Rows) -> Interval:
    if rows.is_binary:
        actual, said = _positive(rows)
        return _share(said, actual)
    return _mean_share(rows.outcomes == rows.predictions, rows.outcomes, rows.codes)


def _specificity(rows: Rows) -> Interval | Influence:
    if rows.is_binary:
        actual, said = _positive(rows)
        return _share(~said & ~rows.unknown, ~actual)
    of_actual, of_said = _one_hot(rows, rows.codes[rows.codes < len(rows.schema.classes)])
    influence = intervals.of_macro_ratio((1 - of_actual) * (1 - of_said), 1 - of_actual)
    return Influence(influence, _rarest_seen(rows))


def _f1(rows: Rows) -> Influence:
    if rows.is_binary:
        actual, said = _positive(rows)
        both, either = (actual & said).astype(np.float64), actual.astype(np.float64) + said.astype(np.float64)
        influence = intervals.of_ratio(2 * both, either)
    else:
        of_actual, of_said = _one_hot(rows, rows.codes)
        influence = intervals.of_macro_ratio(2 * of_actual * of_said, of_actual + of_said)
    return Influence(influence, _rarest_seen(rows))


def _positive(rows: Rows) -> tuple[Flags, Flags]:
    """Tell which outcomes, and which predictions, are the positive class."""
    positive = positive_index(rows.schema)
    return rows.outcomes == positive, rows.predictions == positive


def _one_hot(rows: Rows, named: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Give outcomes and predictions by class.

    They are for averages over classes where one row speaks of several.
    """
    actual, said = ((labels[:, np.newaxis] == named).astype(np.float64) for labels in (rows.outcomes, rows.predictions))
    return actual, said


def _rarest_seen(rows: Rows) -> int:
    """Count the rows of the rarest class that came."""
    return int(np.unique(rows.outcomes, return_counts=True)[1].min())


def _roc_auc(rows: Rows) -> Influence:
    return _of_ranking(rows, intervals.of_roc_auc)


def _average_precision(rows: Rows) -> Influence:
    return _of_ranking(rows, intervals.of_average_precision)


def _of_ranking(rows: Rows, influence: Callable[[Flags, FloatArray], FloatArray]) -> Influence:
    """Average the influences over the classes, each against the rest.

    Of two classes they are the positive one's.
    """
    classes = len(rows.schema.classes)
    watched = range(classes) if rows.schema.task is Task.MULTICLASS else [positive_index(rows.schema)]
    scores = rows.ranked(rows.scores)
    whole = intervals.mean_of(influence(rows.outcomes == code, scores[:, code]) for code in watched)
    rarest = int(np.bincount(rows.outcomes, minlength=classes)[:classes].min())
    return Influence(whole, rarest)


def _log_loss(rows: Rows) -> Interval:
    return Mean.of(-np.log(np.clip(rows.given, np.finfo(np.float64).eps, 1.0)), 0.0)


def _brier(rows: Rows) -> Interval:
    return Mean.of(rows.squares, 0.0)


def _calibration_error(rows: Rows) -> Interval:
    return Calibration.of(*promises(rows.schema, rows.outcomes, rows.scores))


def _mae(rows: Rows) -> Interval:
    return Mean.of(_errors(rows), 0.0)


def _rmse(rows: Rows) -> Interval:
    return RootMean(Mean.of(_errors(rows) ** 2, 0.0))


def _mape(rows: Rows) -> Interval:
    return Mean.of(_errors(rows) / np.maximum(np.abs(rows.outcomes), np.finfo(np.float64).eps), 0.0)


def _r2(rows: Rows) -> Interval:
    return Explained.of(_errors(rows) ** 2, (rows.outcomes - rows.outcomes.mean()) ** 2)


def _bias(rows: Rows) -> Interval:
    return Mean.of(rows.predictions - rows.outcomes)


def _errors(rows: Rows) -> FloatArray:
    return np.asarray(np.abs(rows.predictions - rows.outcomes), dtype=np.float64)


INTERVALS: Mapping[str, Callable[[Rows], Interval | Influence]] = {
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
"""The interval of each metric of :data:`app.figures.performance.PERFORMANCE_METRICS`, or what each row does to it."""


def _of_hits(rows: Rows, trials: NDArray[Any]) -> FloatArray:
    """Influence on the mean share of hits among these trials, over the classes of a metric."""
    hits = (rows.outcomes == rows.predictions).astype(np.float64)
    of_class = (trials[:, np.newaxis] == rows.codes).astype(np.float64)
    return intervals.of_macro_ratio(hits[:, np.newaxis] * of_class, of_class)


def _of_balanced_accuracy(rows: Rows) -> FloatArray:
    of_class = (rows.outcomes[:, np.newaxis] == np.unique(rows.outcomes)).astype(np.float64)
    return intervals.of_macro_ratio((rows.outcomes == rows.predictions)[:, np.newaxis] * of_class, of_class)


def _of_specificity(rows: Rows) -> FloatArray:
    actual, said = _positive(rows)
    return intervals.of_ratio((~said & ~actual).astype(np.float64), (~actual).astype(np.float64))


def _of_calibration_error(rows: Rows) -> FloatArray:
    promised, came = promises(rows.schema, rows.outcomes, rows.scores)
    return intervals.of_mean(came - promised)


INFLUENCES: Mapping[str, Callable[[Rows], FloatArray]] = {
    "accuracy": lambda rows: intervals.of_mean((rows.outcomes == rows.predictions).astype(np.float64)),
    "precision": lambda rows: _of_hits(rows, rows.predictions),
    "recall": lambda rows: _of_hits(rows, rows.outcomes),
    "specificity": _of_specificity,
    "balanced_accuracy": _of_balanced_accuracy,
    "log_loss": lambda rows: intervals.of_mean(-np.log(np.clip(rows.given, np.finfo(np.float64).eps, 1.0))),
    "brier": lambda rows: intervals.of_mean(rows.squares),
    "calibration_error": _of_calibration_error,
    "mae": lambda rows: intervals.of_mean(_errors(rows)),
    "rmse": lambda rows: intervals.of_mean(_errors(rows) ** 2),
    "mape": lambda rows: intervals.of_mean(_errors(rows) / np.maximum(np.abs(rows.outcomes), np.finfo(np.float64).eps)),
    "r2": lambda rows: intervals.of_ratio(_errors(rows) ** 2, (rows.outcomes - rows.outcomes.mean()) ** 2),
    "bias": lambda rows: intervals.of_mean(rows.predictions - rows.outcomes),
}
"""The effect of each row on a metric whose interval does not tell; it shows how rows depend on their neighbours."""
