"""One thing that is watched (a feature, the prediction, its score), and what its reference values say about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.binning import Bins, bins_for_categories, bins_for_numbers
from app.monitoring.statistics import FloatArray, IntArray
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
    """One reference column, with what is computed from it once: order, bins and counts."""

    subject: Subject
    values: NDArray[Any]

    @cached_property
    def present(self) -> FloatArray:
        """A number's values, sorted, without the missing ones; empty for categories."""
        return sorted_present(self.subject, self.values)

    @cached_property
    def bins(self) -> Bins:
        """The bins that reference and window are both counted in."""
        if self.subject.categories is None:
            return bins_for_numbers(self.present)
        return bins_for_categories(self.values, self.subject.categories)

    @cached_property
    def counts(self) -> IntArray:
        """Reference rows per bin."""
        return self.bins.counts(self.values)


def sorted_present(subject: Subject, values: NDArray[Any]) -> FloatArray:
    """Sort the values of a number, without the missing ones; empty for categories."""
    if subject.categories is not None:
        return np.empty(0)
    return np.sort(values[~np.isnan(values)])


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
