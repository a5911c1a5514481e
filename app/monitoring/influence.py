"""What one row moves a metric: influences, whose spread gives the metric's standard error.

To first order a metric is its value plus the mean of one influence per row, so that its standard error is the root of
their sum of squares, over n: Hampel (1974), doi:10.1080/01621459.1974.10482962. All functions give an array of
shape (n,).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from app.monitoring.statistics import FloatArray


def standard_error(influence: FloatArray) -> float:
    """Give the standard error of the metric that has these influences.

    >>> round(standard_error(np.array([1.0, -1.0, 1.0, -1.0])), 4)  # that of a mean is s / sqrt(n)
    0.5774
    """
    count = len(influence)
    return float(np.sqrt(np.sum(influence**2) / (count * max(count - 1, 1))))


def of_mean(values: FloatArray) -> FloatArray:
    """Influence on a mean."""
    return np.asarray(values - values.mean(), dtype=np.float64)


def of_ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Influence on the ratio of two means; zero where it is undefined."""
    total = float(denominator.mean())
    if total == 0:
        return np.zeros(len(numerator))
    return np.asarray((numerator - numerator.mean() / total * denominator) / total, dtype=np.float64)


def of_macro_ratio(numerators: FloatArray, denominators: FloatArray) -> FloatArray:
    """Influence on the mean of several ratios, one per column of two arrays of shape (n, classes)."""
    pairs = zip(numerators.T, denominators.T, strict=True)
    return mean_of(of_ratio(above, below) for above, below in pairs)


def mean_of(influences: Iterable[FloatArray]) -> FloatArray:
    """Influence on the mean of several metrics."""
    return np.asarray(np.mean(list(influences), axis=0), dtype=np.float64)


def of_roc_auc(actual: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """Influence on the area under the ROC curve: DeLong et al. (1988), doi:10.2307/2531595."""
    influence = np.zeros(len(scores))
    positives, negatives = int(actual.sum()), int((~actual).sum())
    if not positives or not negatives:
        return influence
    ranks = rankdata(scores)
    for side, others, sign in ((actual, negatives, 1), (~actual, positives, -1)):
        placed = sign * (ranks[side] - rankdata(scores[side])) / others
        influence[side] = of_mean(placed) * len(scores) / int(side.sum())
    return influence


def of_average_precision(actual: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """Influence on average precision, ``E[Y P(S)] / E[Y]`` with P(s) the precision at and above the score s.

    A row moves it as one of the positives, and through the precision at every positive's score at or below its own.
    """
    count, prevalence = len(scores), float(actual.mean())
    if prevalence in (0.0, 1.0):
        return np.zeros(count)
    values, group = np.unique(scores, return_inverse=True)
    rows = np.bincount(group, minlength=len(values)).astype(np.float64)
    hits = np.bincount(group, weights=actual.astype(np.float64), minlength=len(values))
    above, hits_above = (np.cumsum(each[::-1])[::-1] for each in (rows, hits))
    precision = np.asarray(hits_above / above, dtype=np.float64)
    own = np.cumsum(hits / above)[group]
    weight = actual.astype(np.float64)
    through = weight * own - np.cumsum(hits * precision / above)[group]
    return np.asarray(of_ratio(weight * precision[group], weight) + through / prevalence, dtype=np.float64)
