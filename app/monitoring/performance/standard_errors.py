"""Standard errors of performance metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.metrics import Calibration, positive_index, promises
from app.statistics import FloatArray, intervals
from app.statistics.intervals import Bounded, Interval, Mean, MeanShare, RootMean, Share
from app.types import ModelSchema, Task


@dataclass(frozen=True, slots=True)
class Explained:
    """R squared, 1 minus a ratio of two means: squared errors over squared deviations of the same rows.

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


def spread(
    schema: ModelSchema,
    outcomes: NDArray[Any],
    predictions: NDArray[Any],
    probabilities: FloatArray | None,
    values: Mapping[str, float | None],
) -> dict[str, Interval]:
    """Measure the spread of these metrics over the rows that they were computed from; undefined ones are left out.

    >>> schema = ModelSchema("m", "1", Task.REGRESSION, ())
    >>> found = spread(schema, np.zeros(4), np.array([1.0, 3.0, 1.0, 3.0]), None, {"mae": 2.0})
    >>> [round(bound, 2) for bound in found["mae"].bounds(0.95)]
    [0.16, 3.84]
    """
    if schema.task is Task.REGRESSION:
        found = _regression(outcomes, predictions)
    else:
        known = {name: value for name, value in values.items() if value is not None}
        found = _labels(schema, outcomes, predictions, known)
        if probabilities is not None:
            found |= _probabilistic(schema, outcomes, probabilities, known)
    return {name: interval for name, interval in found.items() if values.get(name) is not None}


def _regression(outcomes: FloatArray, predictions: FloatArray) -> dict[str, Interval]:
    signed = predictions - outcomes
    errors = np.abs(signed)
    percentages = errors / np.maximum(np.abs(outcomes), np.finfo(np.float64).eps)
    return {
        "mae": Mean.of(errors, 0.0),
        "rmse": RootMean(Mean.of(errors**2, 0.0)),
        "mape": Mean.of(percentages, 0.0),
        "r2": Explained.of(errors**2, (outcomes - outcomes.mean()) ** 2),
        "bias": Mean.of(signed),
    }


def _labels(
    schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any], values: Mapping[str, float]
) -> dict[str, Interval]:
    hits, codes = outcomes == predictions, np.unique(outcomes)
    found: dict[str, Interval] = {
        "accuracy": Share(int(hits.sum()), len(hits)),
        "balanced_accuracy": _mean_share(hits, outcomes, codes),
    }
    if schema.task is Task.BINARY:
        actual, said = (labels == positive_index(schema) for labels in (outcomes, predictions))
        found |= {
            "precision": _share(actual, said),
            "recall": _share(said, actual),
            "specificity": _share(~said, ~actual),
        }
        influences = {"f1": intervals.of_ratio(2.0 * (actual & said), 1.0 * actual + said)}
    else:
        named = np.union1d(outcomes, predictions)
        found |= {"precision": _mean_share(hits, predictions, named), "recall": _mean_share(hits, outcomes, named)}
        influences = _macro(outcomes, predictions, named)
    return found | _bounded(influences, values, min(int((outcomes == code).sum()) for code in codes))


def _share(hits: Flags, trials: Flags) -> Share:
    return Share(int((hits & trials).sum()), int(trials.sum()))


def _mean_share(hits: Flags, labels: NDArray[Any], codes: NDArray[Any]) -> MeanShare:
    return MeanShare(tuple(_share(hits, labels == code) for code in codes))


def _macro(outcomes: NDArray[Any], predictions: NDArray[Any], named: NDArray[Any]) -> dict[str, FloatArray]:
    """Influences on averages over the classes that occur, where one row speaks of several classes."""
    actual, said = ((labels[:, np.newaxis] == named).astype(np.float64) for labels in (outcomes, predictions))
    return {
        "specificity": intervals.of_macro_ratio((1 - actual) * (1 - said), 1 - actual),
        "f1": intervals.of_macro_ratio(2 * actual * said, actual + said),
    }


def _probabilistic(
    schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray, values: Mapping[str, float]
) -> dict[str, Interval]:
    classes = np.arange(len(schema.classes))
    given = np.clip(probabilities[np.arange(len(outcomes)), outcomes], np.finfo(np.float64).eps, 1.0)
    squares = np.sum((probabilities - (outcomes[:, np.newaxis] == classes)) ** 2, axis=1)
    if schema.task is Task.BINARY:
        squares = (probabilities[:, positive_index(schema)] - (outcomes == positive_index(schema))) ** 2
    found: dict[str, Interval] = {
        "log_loss": Mean.of(-np.log(given), 0.0),
        "brier": Mean.of(squares, 0.0),
        "calibration_error": Calibration.of(*promises(schema, outcomes, probabilities)),
    }
    watched = classes if schema.task is Task.MULTICLASS else [positive_index(schema)]
    sides = [(outcomes == code, probabilities[:, code]) for code in watched]
    influences = {
        "roc_auc": intervals.mean_of(intervals.of_roc_auc(*side) for side in sides),
        "average_precision": intervals.mean_of(intervals.of_average_precision(*side) for side in sides),
    }
    rarest = int(np.bincount(outcomes, minlength=len(classes)).min())
    return found | _bounded(influences, values, rarest)


def _bounded(influences: Mapping[str, FloatArray], values: Mapping[str, float], rows: int) -> dict[str, Interval]:
    return {
        name: Bounded(values[name], intervals.standard_error(each), rows)
        for name, each in influences.items()
        if name in values
    }
