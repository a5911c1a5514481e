"""How the values of one feature are counted: bins come from the reference alone, and missing is a bin of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.monitoring.statistics import FloatArray, IntArray
from app.types import Json, Label

MISSING, UNSEEN = -1, -2
"""Codes of a categorical column for a missing value and for a category that the schema does not know."""

_QUANTILE_BINS = 10
_TOP_CATEGORIES = 20
_FEW_VALUES = 20


@dataclass(frozen=True, slots=True)
class QuantileBins:
    """Bins of a continuous number: ``edges`` are upper bounds (inclusive), the outer bins are open-ended."""

    edges: FloatArray

    def counts(self, column: NDArray[Any]) -> IntArray:
        """Rows per bin, then missing."""
        return self.counts_of_sorted(np.sort(column[~np.isnan(column)]), len(column))

    def counts_of_sorted(self, present: FloatArray, rows: int) -> IntArray:
        """Count ``rows`` values whose present ones are sorted: one step in them per edge."""
        ends = np.searchsorted(present, self.edges, "right")
        return np.diff(np.concatenate([[0], ends, [len(present), rows]]))

    def histogram(self, counts: IntArray) -> Json:
        """``edges`` has one entry less than ``counts``."""
        return {"edges": self.edges.tolist(), "counts": counts[:-1].tolist(), "missing": int(counts[-1])}


@dataclass(frozen=True, slots=True)
class ValueBins:
    """Bins of a number with few distinct values: one bin each, then every other value, then missing."""

    values: FloatArray

    def counts(self, column: NDArray[Any]) -> IntArray:
        """Rows per value, then other, then missing."""
        return self.counts_of_sorted(np.sort(column[~np.isnan(column)]), len(column))

    def counts_of_sorted(self, present: FloatArray, rows: int) -> IntArray:
        """Count ``rows`` values whose present ones are sorted."""
        known = count_equal(present, self.values)
        return np.concatenate([known, [len(present) - known.sum(), rows - len(present)]])

    def histogram(self, counts: IntArray) -> Json:
        """One count per value; ``other`` and ``missing`` stand apart."""
        *known, other, missing = counts.tolist()
        return {"categories": self.values.tolist(), "counts": known, "other": other, "missing": missing}


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """Bins of a categorical column: the ``top`` codes, then the other known ones, unseen categories, and missing."""

    categories: tuple[Label, ...]
    top: IntArray

    def counts(self, column: NDArray[Any]) -> IntArray:
        """Rows per top category, then other, unseen, missing."""
        unseen, missing, *_ = per_code = code_counts(column, len(self.categories))
        top = per_code[2:][self.top]
        return np.concatenate([top, [per_code[2:].sum() - top.sum(), unseen, missing]])

    def histogram(self, counts: IntArray) -> Json:
        """One count per category; ``other``, ``unseen`` and ``missing`` stand apart."""
        *known, other, unseen, missing = counts.tolist()
        names = [self.categories[code] for code in self.top.tolist()]
        return {"categories": names, "counts": known, "other": other, "unseen": unseen, "missing": missing}


Bins: TypeAlias = QuantileBins | ValueBins | CategoryBins
"""Count an encoded column, the missing values last, and show the counts as the report does."""


def bins_for_numbers(values: FloatArray) -> QuantileBins | ValueBins:
    """Bins from the present values of a reference, sorted ascending.

    Few distinct values get a bin each, since quantiles and order statistics say little about heavy ties.

    >>> bins_for_numbers(np.arange(101.0)).histogram(np.arange(11))["edges"]
    [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0]
    """
    firsts = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    if 0 < len(firsts) <= _FEW_VALUES:
        return ValueBins(values[firsts])
    edges = np.unique(np.quantile(values, np.arange(1, _QUANTILE_BINS) / _QUANTILE_BINS)) if len(values) else values
    return QuantileBins(edges[edges < values[-1]] if len(values) else edges)


def bins_for_categories(codes: NDArray[Any], categories: tuple[Label, ...]) -> CategoryBins:
    """Bins from a reference's codes: its most frequent categories, in the schema's order.

    >>> bins_for_categories(np.array([0, 2, 2]), ("a", "b", "c")).counts(np.array([2, -2, 1, -1])).tolist()
    [0, 1, 1, 0, 1, 1]
    """
    frequency = code_counts(codes, len(categories))[2:]
    top = np.sort(np.argsort(-frequency, kind="stable")[:_TOP_CATEGORIES])
    return CategoryBins(categories, top.astype(np.int64))


def count_equal(ordered: FloatArray, values: FloatArray) -> IntArray:
    """Count how often each of some values stands in a sorted array.

    >>> count_equal(np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 3.0])).tolist()
    [2, 0]
    """
    return np.searchsorted(ordered, values, "right") - np.searchsorted(ordered, values, "left")


def code_counts(codes: NDArray[Any], categories: int) -> IntArray:
    """Rows per code: unseen, missing, then each of the categories."""
    return np.bincount(codes.astype(np.int64) - UNSEEN, minlength=categories - UNSEEN)


def merge_rare(ours: IntArray, theirs: IntArray) -> tuple[IntArray, IntArray]:
    """Add up the categories that are rare in two samples together; the rest keep :func:`code_counts`' order.

    Which ones are rare must not be read off one sample: its most frequent categories are partly its luckiest, and a
    test on them calls the other sample different.

    >>> ours, theirs = merge_rare(np.array([0, 1, *range(1, 23)]), np.array([5, 0, *range(1, 23)]))
    >>> ours.tolist()[:3], theirs.tolist()[:3], ours.tolist()[-1]
    ([0, 1, 22], [5, 0, 22], 3)
    """
    frequency = np.argsort(-(ours[2:] + theirs[2:]), kind="stable")
    top, rare = 2 + frequency[:_TOP_CATEGORIES], 2 + frequency[_TOP_CATEGORIES:]
    merged = [np.concatenate([counts[:2], counts[top], [counts[rare].sum()]]) for counts in (ours, theirs)]
    return merged[0], merged[1]
