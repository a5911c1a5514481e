"""Columns of the reference: their bins, sorted values and descriptions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.reports.drift import ColumnSummary, Histogram
from app.statistics import FloatArray, IntArray, RobustScale
from app.statistics.autocorrelation import Independence
from app.types import Feature, FeatureType, Label, ModelSchema, Row, Task

MISSING, UNSEEN = -1, -2
"""Codes of a categorical column for a missing value and for a category that the schema does not know."""

_QUANTILE_BINS = 10
_TOP_CATEGORIES = 20
_MAX_DISTINCT_VALUES = 20


@dataclass(frozen=True, slots=True)
class QuantileBins:
    """Hold bins of a continuous number.

    ``edges`` are upper bounds (inclusive); the outer bins are open.
    """

    edges: FloatArray

    def counts(self, column: NDArray[Any]) -> IntArray:
        """Rows per bin, then missing."""
        return self.counts_of_sorted(np.sort(column[~np.isnan(column)]), len(column))

    def counts_of_sorted(self, present: FloatArray, rows: int) -> IntArray:
        """Count ``rows`` values whose present ones are sorted: one step in them per edge."""
        ends = np.searchsorted(present, self.edges, "right")
        return np.diff(np.concatenate([[0], ends, [len(present), rows]]))

    def histogram(self, counts: IntArray) -> Histogram:
        """``edges`` has one entry less than ``counts``."""
        return {"edges": self.edges.tolist(), "counts": counts[:-1].tolist(), "missing": int(counts[-1])}


@dataclass(frozen=True, slots=True)
class ValueBins:
    """Hold bins of a number with few distinct values: each value, all others, missing."""

    values: FloatArray

    def counts(self, column: NDArray[Any]) -> IntArray:
        """Rows per value, then other, then missing."""
        return self.counts_of_sorted(np.sort(column[~np.isnan(column)]), len(column))

    def counts_of_sorted(self, present: FloatArray, rows: int) -> IntArray:
        """Count ``rows`` values whose present ones are sorted."""
        known = count_equal(present, self.values)
        return np.concatenate([known, [len(present) - known.sum(), rows - len(present)]])

    def histogram(self, counts: IntArray) -> Histogram:
        """One count per value; ``other`` and ``missing`` stand apart."""
        *known, other, missing = counts.tolist()
        return {"categories": self.values.tolist(), "counts": known, "other": other, "missing": missing}


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """Hold bins of a categorical column: the top codes, other known ones, unseen, missing."""

    categories: tuple[Label, ...]
    top: IntArray

    def counts(self, column: NDArray[Any]) -> IntArray:
        """Rows per top category, then other, unseen, missing."""
        unseen, missing, *_ = per_code = code_counts(column, len(self.categories))
        top = per_code[2:][self.top]
        return np.concatenate([top, [per_code[2:].sum() - top.sum(), unseen, missing]])

    def histogram(self, counts: IntArray) -> Histogram:
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
    if 0 < len(firsts) <= _MAX_DISTINCT_VALUES:
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


MIN_EXPECTED_ROWS = 7
"""Rows that a category must expect in the reference to stand by itself; one that does is missed in one of 1,000."""


def merge_novel(ours: IntArray, theirs: IntArray) -> tuple[IntArray, IntArray]:
    """Put the categories that a reference of this size may miss beside the unseen ones.

    The order stays.

    A category is known because the reference happens to show it, so that rare ones are found in the reference and
    missed in the window, and new ones the other way round. Together they are one share that does not change: what
    Good (1953), doi:10.1093/biomet/40.3-4.237, expects of the unseen is what the rare ones lose.

    >>> ours, theirs = merge_novel(np.array([0, 0, 90, 1, 9]), np.array([2, 0, 92, 0, 6]))
    >>> ours.tolist(), theirs.tolist()
    ([1, 0, 90, 0, 9], [2, 0, 92, 0, 6])
    """
    n, m = ours.sum(), theirs.sum()
    rare = np.flatnonzero((ours + theirs)[2:] * (n / (n + m)) < MIN_EXPECTED_ROWS) + 2
    merged = []
    for counts in (ours, theirs):
        whole = counts.copy()
        whole[0] += whole[rare].sum()
        whole[rare] = 0
        merged.append(whole)
    return merged[0], merged[1]


def pool(reference: NDArray[Any], window: NDArray[Any]) -> NDArray[Any]:
    """Put two encoded samples behind each other.

    Codes that :func:`merge_novel` would merge become unseen ones.

    >>> pool(np.array([0] * 9 + [1]), np.array([0] * 8 + [-2, -1])).tolist()
    [0, 0, 0, 0, 0, 0, 0, 0, 0, -2, 0, 0, 0, 0, 0, 0, 0, 0, -2, -1]
    """
    both = np.concatenate([reference, window])
    if both.dtype.kind != "i":
        return both
    expected = code_counts(both, 0) * (len(reference) / len(both))
    return np.where((both >= 0) & (expected[both - UNSEEN] < MIN_EXPECTED_ROWS), UNSEEN, both)


def merge_rare(ours: IntArray, theirs: IntArray) -> tuple[IntArray, IntArray]:
    """Merge the categories that are rare in two samples together.

    The rest keep the order of :func:`code_counts`.

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


@dataclass(frozen=True, slots=True)
class Subject:
    """Hold what is watched; ``categories`` is None for numbers, else the labels of the codes."""

    name: str
    type: str
    categories: tuple[Label, ...] | None = None


def feature_subject(feature: Feature) -> Subject:
    """Make a feature something to watch."""
    categories = feature.categories if feature.type is FeatureType.CATEGORICAL else None
    return Subject(feature.name, feature.type.value, categories)


def prediction_subject(schema: ModelSchema) -> Subject:
    """Make the model's answer something to watch: a number in regression, else a class."""
    if schema.task is Task.REGRESSION:
        return Subject("prediction", FeatureType.NUMERIC.value)
    return Subject("prediction", FeatureType.CATEGORICAL.value, schema.classes)


def score_of(schema: ModelSchema, probabilities: FloatArray) -> FloatArray:
    """Give the one probability to watch, of shape (n,).

    It is that of the positive class, or the highest of many classes.
    """
    if schema.task is Task.BINARY and schema.positive is not None:
        return probabilities[:, schema.classes.index(schema.positive)]
    return np.asarray(probabilities.max(axis=1), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ReferenceColumn:
    """One reference column, with what is computed from it once: order, bins and counts.

    Attributes:
        ordered: whether the rows are in order of time, so that neighbours tell how independent rows are.
    """

    subject: Subject
    values: NDArray[Any]
    ordered: bool = False

    @cached_property
    def present(self) -> FloatArray:
        """A number's values, sorted, without the missing ones; empty for categories."""
        return sorted_present(self.subject, self.values)

    @cached_property
    def distinct(self) -> FloatArray:
        """A number's different values, ascending."""
        return self.present[np.flatnonzero(np.diff(self.present, prepend=np.nan) != 0)]

    @cached_property
    def order(self) -> NDArray[np.int32]:
        """Places of a number's present values, in ascending order of the values."""
        known = np.flatnonzero(~np.isnan(self.values)).astype(np.int32)
        return known[np.argsort(self.values[known])]

    @cached_property
    def bins(self) -> Bins:
        """The bins that reference and window are both counted in."""
        if self.subject.categories is None:
            return bins_for_numbers(self.present)
        return bins_for_categories(self.values, self.subject.categories)

    @cached_property
    def counts(self) -> IntArray:
        """Reference rows per bin."""
        return self.count(self.values, self.present)

    def count(self, column: NDArray[Any], present: FloatArray) -> IntArray:
        """Rows per bin of an encoded column whose :func:`sorted_present` is known."""
        bins = self.bins
        return bins.counts(column) if isinstance(bins, CategoryBins) else bins.counts_of_sorted(present, len(column))

    @cached_property
    def scale(self) -> RobustScale:
        """A number's robust scale; there must be present values."""
        return RobustScale(self.present)

    @cached_property
    def independence(self) -> Independence:
        """Give how independent the rows are; rows without an order count as independent."""
        return Independence.of(self.values) if self.ordered else Independence()

    @cached_property
    def summary(self) -> ColumnSummary:
        """The reference's side of a report."""
        return describe(self.subject, self.present, self.counts, self.bins)


def sorted_present(subject: Subject, values: NDArray[Any]) -> FloatArray:
    """Sort the values of a number, without the missing ones; empty for categories."""
    if subject.categories is not None:
        return np.empty(0)
    return np.sort(values[~np.isnan(values)])


ROUNDING = 2.0**-23
"""Relative error of a number that went through 32 bits."""
_MAX_DISTINCT_SHARE = 0.99
"""Different values per row up to which a reference has values that come again; a window's need not be theirs."""


def snap(reference: ReferenceColumn, values: NDArray[Any]) -> NDArray[Any]:
    """Replace a number by the reference's value that it equals but for rounding to 32 bits.

    One side of a pipeline has floats of 32 bits, the other of 64, or a sum gives another last digit: 0.1 is
    0.10000000149 then, and lies in another bin, beyond a bound, or is no longer the most frequent value. Whole numbers
    that differ stay different; so does all of a reference whose values hardly ever come again.

    >>> column = ReferenceColumn(Subject("x", "numeric"), np.array([0.1, 0.2, 0.2]))
    >>> snap(column, np.array([0.10000000149011612, 0.15])).tolist()
    [0.1, 0.15]
    """
    if values.dtype.kind != "f" or reference.values.dtype.kind != "f":
        return values
    known, rows = reference.distinct, len(reference.present)
    if not len(known) or len(known) > _MAX_DISTINCT_SHARE * rows:
        return values
    after = np.searchsorted(known, values).clip(0, len(known) - 1)
    rest = np.flatnonzero((known[after] != values) & ~np.isnan(values))
    if not len(rest):
        return values
    other, above = values[rest], known[after[rest]]
    below = known[np.maximum(after[rest] - 1, 0)]
    nearest = np.where(np.abs(other - below) < np.abs(above - other), below, above)
    whole = (other == np.floor(other)) & (nearest == np.floor(nearest))
    close = ~whole & (np.abs(other - nearest) <= ROUNDING * np.abs(nearest))
    snapped = values.copy()
    snapped[rest[close]] = nearest[close]
    return snapped


def without(ordered: FloatArray, values: FloatArray) -> FloatArray:
    """Leave some values out of a sorted array."""
    return ordered[~np.isin(ordered, values)] if len(values) else ordered


def describe(subject: Subject, present: FloatArray, counts: IntArray, bins: Bins) -> ColumnSummary:
    """Describe a column: mean, standard deviation, missing share and histogram.

    Mean and deviation are null where there is no number.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean = finite(present.mean()) if len(present) else None
        std = finite(present.std(ddof=1)) if len(present) > 1 else None
    rows = int(counts.sum())
    missing_share = int(counts[-1]) / rows if rows else None
    if subject.categories is None:
        return {"mean": mean, "std": std, "missing_share": missing_share, "histogram": bins.histogram(counts)}
    return {"missing_share": missing_share, "histogram": bins.histogram(counts)}


def finite(value: float) -> float | None:
    """Give the number, or None where strict JSON has no word for it."""
    return float(value) if math.isfinite(value) else None


MAX_EXPECTED_PRESENT = 30
"""Values that a window is to have below which one window cannot show that they have stopped: 1 % of 1,000 rows."""


class GapsBefore(NamedTuple):
    """Hold the missing values of the window before, and its rows."""

    missing: int
    rows: int


def gaps_before(watched: Sequence[ReferenceColumn], before: Sequence[Row], rows: int) -> list[GapsBefore | None]:
    """Count the missing values of the window before, where the reference has few values.

    Args:
        watched: the features, then answers, which are never missing.
        before: rows of the window before.
        rows: of this window.
    """
    found: list[GapsBefore | None] = [None] * len(watched)
    features = len(before[0]) if before else 0
    for place, column in enumerate(watched[:features]):
        expected = rows * (1 - column.counts[-1] / max(len(column.values), 1))
        if 0 < expected < MAX_EXPECTED_PRESENT:
            gaps = sum(row[place] is None for row in before)
            found[place] = GapsBefore(gaps, len(before))
    return found
