"""Joint drift: a classifier tries to tell the window from the reference, by any combination of features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from app.monitoring.columns import Subject
from app.monitoring.design import Design, design
from app.monitoring.independence import Independence
from app.monitoring.statistics import FloatArray

_MOST_ROWS = 5_000
"""Rows of each side that are used: of more, an even sample."""
_CHUNKS = 10
"""Runs of neighbouring rows that go into one fold together, lest neighbours in time give each other away."""
_RIDGE = 0.1
"""Penalty, relative to each column's sum of squares."""
_SCREEN = 1.5
"""Standard errors by which the sides must differ in a column of the fitted half; beside a product all are used."""
_ROUNDING = 1e-9
"""Below this, the spread of ranks, which are shares, is an error of arithmetic: all scores are equal."""


@dataclass(frozen=True, slots=True)
class Separation:
    """How well the classifier told both sides apart on rows that it was not fitted on.

    Attributes:
        auc: probability that a row of the window is scored above one of the reference; 0.5 is chance.
        p_value: of "both sides are alike".
        effective_rows: independent rows that the window's scores are worth.
        shares: each column's part in the distance of the mean scores.
    """

    auc: float
    p_value: float
    effective_rows: float
    shares: FloatArray


def separate(
    subjects: Sequence[Subject],
    reference: Sequence[NDArray[Any]],
    window: Sequence[NDArray[Any]],
    *,
    ordered: bool = False,
    inflation: float = 1.0,
) -> Separation:
    """Fit a domain classifier on one half of the rows and test it on the other, both ways round.

    The classifier is a ridge regression of the side on normal scores, squares, indicators and products
    (:func:`app.monitoring.design.design`), of those that differ in the fitted half. Each half's AUC is Mann and
    Whitney's statistic (1947), doi:10.1214/aoms/1177730491, whose null holds, since the scores of one half depend on
    the other half alone: no bias of pooled folds enters. The two z-values depend on each other, at worst perfectly, so
    their mean is taken as one z-value. After Lopez-Paz and Oquab (2017), arXiv:1610.06545.

    Args:
        reference, window: encoded columns in the order of ``subjects``, rows of the window in order of time.
        ordered: whether the reference's rows are in order of time too; only then do they tell their autocorrelation.
        inflation: variance of a window relative to sampling noise, at least 1.
    """
    sampled = [_even(column) for column in reference], [_even(column) for column in window]
    sides = len(sampled[0][0]), len(sampled[1][0])
    table = design(subjects, [np.concatenate(pair) for pair in zip(*sampled, strict=True)])
    label = np.repeat([0.0, 1.0], sides)
    fold = np.concatenate([np.arange(rows) * _CHUNKS // rows % 2 for rows in sides])
    halves = [_test(table, label, fold == half, ordered=ordered) for half in (0, 1)]
    z = float(np.mean([half.z for half in halves])) / np.sqrt(inflation)
    shares = np.maximum(np.sum([half.contributions for half in halves], axis=0), 0.0)
    whole = float(shares.sum())
    return Separation(
        auc=float(np.mean([half.auc for half in halves])),
        p_value=float(special.ndtr(-z)),
        effective_rows=sum(half.effective_rows for half in halves),
        shares=shares / whole if whole else shares,
    )


@dataclass(frozen=True, slots=True)
class _Half:
    auc: float
    z: float
    effective_rows: float
    contributions: FloatArray


def _test(table: Design, label: FloatArray, fitted: NDArray[np.bool_], *, ordered: bool) -> _Half:
    """Fit on one half, score the other, and split the distance of its mean scores among the columns."""
    extended = table.with_products(label, fitted)
    means, errors = _mean_distances(extended.values[fitted], label[fitted])
    chosen = (np.abs(means) >= errors * _SCREEN) | (extended.beside_products & (errors < np.inf))
    values = extended.values[:, chosen]
    x, y = values[fitted] - values[fitted].mean(axis=0), label[fitted]
    gram = x.T @ x
    weights = np.linalg.solve(gram + _RIDGE * np.diag(np.diag(gram)), x.T @ (y - y.mean()))
    tested, is_window = values[~fitted], label[~fitted] == 1
    scores = tested @ weights
    ours, theirs = scores[~is_window], scores[is_window]
    worth = len(ours) * (Independence.of(ours).values if ordered else 1.0), len(theirs) * Independence.of(theirs).values
    contributions = extended.owners[:, chosen] @ (_mean_distances(tested, label[~fitted])[0] * weights)
    return _Half(*_mann_whitney(ours, theirs, worth), worth[1], contributions)


def _mean_distances(values: FloatArray, label: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Each column's mean in the window above that in the reference, and its standard error; a constant is left out."""
    ours, theirs = values[label == 0], values[label == 1]
    variance = values.var(axis=0)
    errors = np.sqrt(np.where(variance > 0, variance, np.inf) * (1 / len(ours) + 1 / len(theirs)))
    return theirs.mean(axis=0) - ours.mean(axis=0), errors


def _mann_whitney(ours: FloatArray, theirs: FloatArray, worth: tuple[float, float]) -> tuple[float, float]:
    """AUC and its z-value, with ties at their middle rank, for as many rows as the scores are worth."""
    ranks = stats.rankdata(np.concatenate([ours, theirs])) / (len(ours) + len(theirs))
    error = float(np.std(ranks, ddof=1)) * np.sqrt(1 / worth[0] + 1 / worth[1])
    distance = float(ranks[len(ours) :].mean() - ranks[: len(ours)].mean())
    return 0.5 + distance, distance / error if error > _ROUNDING else 0.0


def _even(column: NDArray[Any]) -> NDArray[Any]:
    places = np.linspace(0, len(column) - 1, min(len(column), _MOST_ROWS)).round().astype(np.int64)
    return column[places]
