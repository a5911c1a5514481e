"""One thing that is watched (a feature, the prediction, its score), and what its reference values say about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.binning import Bins, CategoryBins, QuantileBins, bins_for_categories, bins_for_numbers, count_equal
from app.monitoring.independence import Independence
from app.monitoring.statistics import FloatArray, IntArray, RobustScale
from app.types import Feature, FeatureType, Json, Label, ModelSchema, Task


@dataclass(frozen=True, slots=True)
class Subject:
    """What is watched: ``categories`` is None for numbers, else the labels behind the codes."""

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
    """Pick the one probability to watch, shape (n,): the positive class's, or with many classes the highest."""
    if schema.task is Task.BINARY and schema.positive is not None:
        return probabilities[:, schema.classes.index(schema.positive)]
    return np.asarray(probabilities.max(axis=1), dtype=np.float64)


@dataclass(frozen=True)
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
    def atoms(self) -> FloatArray:
        """Values of a binned number that a fifth of the present rows or more have: the zeros of a zero-inflated one."""
        if not isinstance(self.bins, QuantileBins) or not len(self.present):
            return np.empty(0)
        fifth = (np.arange(1, 5) * len(self.present)) // 5
        candidates = np.unique(self.present[fifth])
        return candidates[count_equal(self.present, candidates) * 5 >= len(self.present)]

    @cached_property
    def spread_out(self) -> FloatArray:
        """The present values, sorted, without the atoms."""
        return without(self.present, self.atoms)

    @cached_property
    def scale(self) -> RobustScale:
        """A number's robust scale; there must be present values."""
        return RobustScale(self.present)

    @cached_property
    def independence(self) -> Independence:
        """How independent the rows are: wholly, where their order says nothing."""
        return Independence.of(self.values) if self.ordered else Independence()

    @cached_property
    def summary(self) -> Json:
        """The reference's side of a report."""
        return describe(self.subject, self.present, self.counts, self.bins)


def sorted_present(subject: Subject, values: NDArray[Any]) -> FloatArray:
    """Sort the values of a number, without the missing ones; empty for categories."""
    if subject.categories is not None:
        return np.empty(0)
    return np.sort(values[~np.isnan(values)])


def without(ordered: FloatArray, values: FloatArray) -> FloatArray:
    """Leave some values out of a sorted array."""
    return ordered[~np.isin(ordered, values)] if len(values) else ordered


def describe(subject: Subject, present: FloatArray, counts: IntArray, bins: Bins) -> Json:
    """Mean and standard deviation of a number (null where there is none), share of missing values, histogram."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = finite(present.mean()) if len(present) else None
        std = finite(present.std(ddof=1)) if len(present) > 1 else None
    rows = int(counts.sum())
    summary = {"mean": mean, "std": std} if subject.categories is None else {}
    return summary | {
        "missing_share": int(counts[-1]) / rows if rows else None,
        "histogram": bins.histogram(counts),
    }


def finite(value: float) -> float | None:
    """Give the number, or None where strict JSON has no word for it."""
    return float(value) if math.isfinite(value) else None
