"""How sure a metric is: confidence intervals of classification and regression metrics.

A share has Wilson's interval. Every other metric is, to first order, its value plus the mean of one influence per row;
its standard error is the root of their sum of squares, over n: Hampel (1974), doi:10.1080/01621459.1974.10482962.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import rankdata

from app.monitoring.statistics import FloatArray, normal_quantile, wilson
from app.types import ModelSchema, Task

_BOUNDS = {"log_loss": (0.0, np.inf), "mae": (0.0, np.inf), "rmse": (0.0, np.inf), "r2": (-np.inf, 1.0)}


@dataclass(frozen=True, slots=True)
class Spread:
    """What the intervals of one window's metrics need: counts for shares, standard errors for the others."""

    shares: Mapping[str, tuple[int, int]]
    errors: Mapping[str, float]

    def interval(self, metric: str, value: float, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval around a metric's value."""
        if metric in self.shares:
            return wilson(*self.shares[metric], confidence)
        half = normal_quantile(confidence) * self.errors[metric]
        floor, ceiling = _BOUNDS.get(metric, (0.0, 1.0))
        return max(value - half, floor), min(value + half, ceiling)


def spread(
    schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any], probabilities: FloatArray | None
) -> Spread:
    """Measure the spread of every metric that :func:`app.monitoring.performance.metrics` gives for the same arrays.

    >>> schema = ModelSchema("m", "1", Task.REGRESSION, ())
    >>> found = spread(schema, np.zeros(4), np.array([1.0, 3.0, 1.0, 3.0]), None)
    >>> found.interval("mae", 2.0, 0.95)
    (1.02..., 2.97...)
    """
    if schema.task is Task.REGRESSION:
        return Spread({}, _standard_errors(_regression(outcomes, predictions)))
    hits = outcomes == predictions
    shares = {"accuracy": (int(hits.sum()), len(hits))}
    influences = {}
    if schema.task is Task.BINARY:
        actual, said = (labels == positive_index(schema) for labels in (outcomes, predictions))
        shares["precision"] = int((actual & said).sum()), int(said.sum())
        shares["recall"] = int((actual & said).sum()), int(actual.sum())
        influences["f1"] = _ratio(2.0 * (actual & said), 1.0 * actual + said)
    else:
        influences |= _macro(outcomes, predictions)
    if probabilities is not None:
        influences |= _probabilistic(schema, outcomes, probabilities)
    return Spread(shares, _standard_errors(influences))


def positive_index(schema: ModelSchema) -> int:
    """Find the position of the positive class; the last one where the schema names none."""
    return len(schema.classes) - 1 if schema.positive is None else schema.classes.index(schema.positive)


def _standard_errors(influences: Mapping[str, FloatArray]) -> dict[str, float]:
    return {name: float(np.sqrt(np.sum(values**2)) / len(values)) for name, values in influences.items()}


def _regression(outcomes: FloatArray, predictions: FloatArray) -> dict[str, FloatArray]:
    errors = np.abs(predictions - outcomes)
    squares, deviations = errors**2, (outcomes - outcomes.mean()) ** 2
    rmse = float(np.sqrt(squares.mean()))
    return {
        "mae": errors - errors.mean(),
        "rmse": (squares - squares.mean()) / (2 * rmse) if rmse else np.zeros(len(errors)),
        "r2": _ratio(squares, deviations),
    }


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Influence on the ratio of two means; zero where it is undefined."""
    total = float(denominator.mean())
    if total == 0:
        return np.zeros(len(numerator))
    return np.asarray((numerator - numerator.mean() / total * denominator) / total, dtype=np.float64)


def _macro(outcomes: NDArray[Any], predictions: NDArray[Any]) -> dict[str, FloatArray]:
    """Influences on precision, recall and F1, averaged over the classes that occur, as scikit-learn does."""
    present = np.union1d(outcomes, predictions)
    actual, said = ((labels[:, np.newaxis] == present).astype(np.float64) for labels in (outcomes, predictions))
    hits = actual * said
    parts = {"precision": (hits, said), "recall": (hits, actual), "f1": (2 * hits, actual + said)}
    return {
        name: np.mean([_ratio(top, bottom) for top, bottom in zip(above.T, below.T, strict=True)], axis=0)
        for name, (above, below) in parts.items()
    }


def _probabilistic(schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray) -> dict[str, FloatArray]:
    given = probabilities[np.arange(len(outcomes)), outcomes] / probabilities.sum(axis=1)
    losses = -xlogy(1.0, np.clip(given, np.finfo(np.float64).eps, 1.0))
    watched = [positive_index(schema)] if schema.task is Task.BINARY else range(len(schema.classes))
    areas = [_roc_auc(outcomes == code, probabilities[:, code]) for code in watched]
    return {"log_loss": losses - losses.mean(), "roc_auc": np.mean(areas, axis=0)}


def _roc_auc(actual: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """Influence on the area under the ROC curve: DeLong et al. (1988), doi:10.2307/2531595."""
    influence = np.zeros(len(scores))
    positives, negatives = int(actual.sum()), int((~actual).sum())
    if not positives or not negatives:
        return influence
    ranks = rankdata(scores)
    for side, others, sign in ((actual, negatives, 1), (~actual, positives, -1)):
        placed = sign * (ranks[side] - rankdata(scores[side])) / others
        influence[side] = (placed - placed.mean()) * len(scores) / int(side.sum())
    return influence
