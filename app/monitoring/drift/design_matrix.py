"""The columns of the domain classifier: normal scores, squares, indicators and products."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.monitoring.reference.columns import MISSING, UNSEEN, Subject
from app.statistics import FloatArray, IntArray, middle_ranks
from app.store.database import Pause, no_pause

_TOP_CATEGORIES = 8
_MIN_INDICATOR_ROWS = 10
"""Rows that an indicator must differ in."""
_PRODUCTS = 10
_MAX_CORRELATION = 1 - 1e-6
"""Largest correlation that is told apart from 1."""


@dataclass(frozen=True, slots=True)
class DesignMatrix:
    """Columns of mean 0 and variance 1.

    Attributes:
        values: shape (rows, columns).
        owners: shape (features, columns), how much of a column belongs to each feature; every column adds up to 1.
        simple: how many of the first columns may be multiplied with each other.
        products: how many of the last columns are such products.
    """

    values: FloatArray
    owners: FloatArray
    simple: int
    products: int = 0

    @property
    def beside_products(self) -> NDArray[np.bool_]:
        """The columns of the features that have a part in a product."""
        features = self.owners[:, self.owners.shape[1] - self.products :].sum(axis=1) > 0
        return np.asarray(features @ self.owners > 0)

    def with_products(self, label: FloatArray, fitted: NDArray[np.bool_]) -> DesignMatrix:
        """Append the products of column pairs whose correlation differs most between the sides.

        They show what a marginal distribution cannot: a changed correlation, a rare combination.
        """
        x, is_window = self.values[fitted, : self.simple], label[fitted] == 1
        change = np.abs(_fisher(x[is_window]) - _fisher(x[~is_window]))
        variance = (x**2).T @ x**2 / len(x) - (x.T @ x / len(x)) ** 2
        error = np.sqrt(np.maximum(variance, 1.0) * (1 / np.sum(is_window) + 1 / np.sum(~is_window)))
        change[self.owners[:, : self.simple].T @ self.owners[:, : self.simple] > 0] = 0.0
        surprise = np.triu(change / error, 1).ravel()
        best = np.argsort(-surprise, kind="stable")[:_PRODUCTS]
        left, right = np.divmod(best[surprise[best] > noise_level(int(np.count_nonzero(surprise)))], self.simple)
        return DesignMatrix(
            np.hstack([self.values, self.values[:, left] * self.values[:, right]]),
            np.hstack([self.owners, (self.owners[:, left] + self.owners[:, right]) / 2]),
            self.simple,
            len(left),
        )


def _fisher(values: FloatArray) -> FloatArray:
    """Compute Fisher's z of all correlations; its error does not depend on their size.

    Reference: Fisher (1915), doi:10.1093/biomet/10.4.507.
    """
    centred = values - values.mean(axis=0)
    sums = np.sqrt((centred**2).sum(axis=0))
    scaled = centred / np.where(sums > 0, sums, np.inf)
    return np.asarray(np.arctanh(np.clip(scaled.T @ scaled, -_MAX_CORRELATION, _MAX_CORRELATION)), dtype=np.float64)


def noise_level(count: int) -> float:
    """About the largest of so many independent standard normal numbers: ``sqrt(2 ln count)``.

    Donoho and Johnstone (1994), doi:10.1093/biomet/81.3.425.

    >>> round(noise_level(190), 2)
    3.24
    """
    return math.sqrt(2 * math.log(max(count, 1)))


def design(subjects: Sequence[Subject], columns: Sequence[NDArray[Any]], pause: Pause = no_pause) -> DesignMatrix:
    """Turn encoded columns into normal scores, indicators and squared scores."""
    simple: list[tuple[int, FloatArray]] = []
    for place in range(len(columns)):
        pause()
        simple += [(place, column) for column in _columns(subjects[place], columns[place])]
    squares = [
        (place, scores**2)
        for place, scores in simple
        if subjects[place].categories is None and len(np.unique(scores[:_MIN_INDICATOR_ROWS])) > 2  # noqa: PLR2004 - no indicator
    ]
    listed = simple + squares
    values = np.column_stack([column for _, column in listed]) if listed else np.empty((len(columns[0]), 0))
    owners = np.zeros((len(columns), len(listed)))
    owners[[place for place, _ in listed], np.arange(len(listed))] = 1.0
    scale = values.std(axis=0)
    return DesignMatrix((values - values.mean(axis=0)) / np.where(scale > 0, scale, np.inf), owners, len(simple))


def _columns(subject: Subject, values: NDArray[Any]) -> Iterator[FloatArray]:
    if subject.categories is not None:
        yield from _indicators(values, [UNSEEN, MISSING, *_frequent(values)])
        return
    missing = np.isnan(values)
    yield from _indicators(missing, [True])
    if not missing.all():
        scores = np.zeros(len(values))
        scores[~missing] = special.ndtri(middle_ranks(values[~missing]) / (np.sum(~missing) + 1))
        yield scores


def _frequent(codes: NDArray[Any]) -> IntArray:
    counts = np.bincount(codes[codes >= 0].astype(np.int64))
    return np.argsort(-counts, kind="stable")[:_TOP_CATEGORIES]


def _indicators(values: NDArray[Any], wanted: Sequence[int]) -> Iterator[FloatArray]:
    for code in wanted:
        found = values == code
        if _MIN_INDICATOR_ROWS <= np.sum(found) <= len(found) - _MIN_INDICATOR_ROWS:
            yield found.astype(np.float64)
