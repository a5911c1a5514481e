"""Count feature values, predictions and confidence.

The buckets of a number are the reference's quantiles. Categories, and numbers of few values, are counted by value:
by those that the reference's profile lists, so that no client's text becomes a label.

Thirty observations a request would cost more than the prediction. Rows are kept as they are and counted with NumPy,
many at once: every few hundred rows, and before each scrape.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from app.metrics import add_histogram
from app.serving.runtimes.base import matrix_of
from app.types import Answer, FeatureType, Label, ModelSchema, Prediction, Row, Scalar, label_key

FOLD_ROWS = 512
SHARE_BUCKETS = (*(step / 20 for step in range(1, 20)), 0.99, 1.0)
OTHER, MISSING = "other", "missing"
"""The values that stand for all that the profile does not list, and for none; a category of that name joins them."""


class ServedValues(Collector):
    """The value histograms of all loaded versions, each series under one heading."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._served: tuple[ValueHistograms, ...] = ()
        registry.register(self)

    def add(self, values: ValueHistograms) -> None:
        """Show a version's histograms."""
        self._served = (*self._served, values)

    def drop(self, values: ValueHistograms) -> None:
        """Show a version's histograms no longer."""
        self._served = tuple(served for served in self._served if served is not values)

    def collect(self) -> Iterator[Metric]:
        """The histograms as they stand; called from the scrape's thread."""
        version = ["model_name", "model_version"]
        families = {
            name: HistogramMetricFamily(name, text, labels=[*version, "feature_name"] if "feature" in name else version)
            for name, text in _HELP.items()
        }
        categories = CounterMetricFamily(
            "ml_feature_category",
            "Rows by the value of a feature with few values; the values are those of the reference",
            labels=[*version, "feature_name", "category"],
        )
        for values in self._served:
            values.enter(families, categories)
        yield from (*families.values(), categories)


class ValueHistograms:
    """The value histograms of one model version.

    Args:
        edges: for each numeric feature the upper bounds of its buckets.
        prediction_edges: the same for the prediction (regression), or for the probability of the positive class.
        categories: the values that a feature is counted by, for those that are not in ``edges``.
    """

    def __init__(
        self,
        schema: ModelSchema,
        edges: Mapping[str, Sequence[float]],
        prediction_edges: Sequence[float],
        categories: Mapping[str, Sequence[Label]] = MappingProxyType({}),
    ) -> None:
        names = schema.feature_names
        watched = [position for position, name in enumerate(names) if name in edges]
        self._pick = _picker(watched, len(names))
        self._features = [Buckets(edges[names[position]]) for position in watched]
        self._schema = schema
        labelled = zip([names[position] for position in watched], self._features, strict=True)
        self._series = {("ml_feature_value", name): buckets for name, buckets in labelled}
        self._series["ml_prediction_value", ""] = Buckets(prediction_edges)
        if schema.classes:
            self._series["ml_prediction_confidence", ""] = Buckets(SHARE_BUCKETS)
        self._categories = {
            place: CategoryCounts(categories[name]) for place, name in enumerate(names) if name in categories
        }
        self._kept: list[Prediction] = []
        self._lock = threading.Lock()

    def observe(self, rows: Sequence[Prediction]) -> None:
        """Count stored rows."""
        with self._lock:
            self._kept += rows
            full = len(self._kept) >= FOLD_ROWS
        if full:
            self._fold()

    def enter(self, families: Mapping[str, HistogramMetricFamily], categories: CounterMetricFamily) -> None:
        """Add the histograms and counts as they stand to their families."""
        self._fold()
        version = {"model_name": self._schema.name, "model_version": self._schema.version}
        for (family, feature), buckets in self._series.items():
            labels = version | ({"feature_name": feature} if feature else {})
            add_histogram(families[family], labels, buckets.cumulative(), buckets.total)
        for place, counts in self._categories.items():
            feature = self._schema.features[place].name
            for category, rows in counts.rows.items():
                categories.add_metric([*version.values(), feature, category], rows)

    def _fold(self) -> None:
        with self._lock:
            rows, self._kept = self._kept, []
            if not rows:
                return
            watched = (
                [row.features for row in rows] if self._pick is None else [self._pick(row.features) for row in rows]
            )
            for buckets, values in zip(self._features, matrix_of(watched, len(self._features)).T, strict=True):
                buckets.add(values)
            for place, counts in self._categories.items():
                counts.add([row.features[place] for row in rows])
            self._add_answers([row.answer for row in rows])

    def _add_answers(self, answers: Sequence[Answer]) -> None:
        """Count the value of an answer.

        It is the number, or the probability of the positive class, else of the last class.
        """
        classes, value = self._schema.classes, self._series["ml_prediction_value", ""]
        if not classes:
            value.add([answer.prediction for answer in answers])
        elif answers[0].probabilities is None:  # a version gives them with each answer, or with none
            value.add([classes.index(answer.prediction) for answer in answers])
        else:
            positive = -1 if self._schema.positive is None else classes.index(self._schema.positive)
            shares = np.array([answer.probabilities for answer in answers])
            value.add(shares[:, positive])
            self._series["ml_prediction_confidence", ""].add(shares.max(axis=1))


def histograms_of(schema: ModelSchema, profile: Mapping[str, Any], private: Collection[str]) -> ValueHistograms:
    """The histograms of a version by the profile of its reference.

    A number has buckets, unless the profile lists its values; every other feature is counted by value.

    Args:
        private: features whose values are nobody's to see, not even how many rows have them.
    """
    edges: dict[str, Sequence[float]] = {}
    categories: dict[str, Sequence[Label]] = {}
    for feature in schema.features:
        known = profile["features"].get(feature.name, {})
        if feature.name in private:
            continue
        if feature.type.is_number and "categories" not in known:
            edges[feature.name] = known.get("edges", ())
        else:
            values = known.get("categories", ())
            categories[feature.name] = list(map(bool, values)) if feature.type is FeatureType.BOOLEAN else values
    of_answers = SHARE_BUCKETS if schema.classes else profile.get("prediction", {}).get("edges") or (0.0,)
    return ValueHistograms(schema, edges, of_answers, categories)


def _picker(positions: Sequence[int], columns: int) -> Callable[[Row], Row] | None:
    """Make a function that takes the values at these positions out of a row, or None for all."""
    if len(positions) == columns:
        return None
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda row: [row[position] for position in positions]


class CategoryCounts:
    """Rows of one feature by value, from a fixed set of values.

    Attributes:
        rows: by the text of a value.
    """

    def __init__(self, values: Sequence[Label]) -> None:
        self._texts: dict[Scalar, str] = {value: _text(value) for value in values}
        self._texts[None] = MISSING
        self.rows = dict.fromkeys([*self._texts.values(), OTHER], 0)

    def add(self, values: Sequence[Scalar]) -> None:
        """Count values; 1, 1.0 and true are one value."""
        for value, rows in Counter(values).items():
            self.rows[self._texts.get(value, OTHER)] += rows


def _text(value: Label) -> str:
    """A value as a label: a whole number has no fraction."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else label_key(value)


class Buckets:
    """One histogram: counts between upper bounds, and the sum of the values.

    What is missing or not finite is not counted.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = np.array(sorted(set(edges)), dtype=np.float64)  # np.unique would load all masked arrays
        self._counts: NDArray[np.int64] = np.zeros(len(self._edges) + 1, dtype=np.int64)
        self.total = 0.0

    def add(self, values: Sequence[Any] | NDArray[np.float64]) -> None:
        """Count values; None is a missing one."""
        numbers = np.array(values, dtype=np.float64)  # None becomes NaN
        numbers = numbers[np.isfinite(numbers)]
        self._counts += np.bincount(np.searchsorted(self._edges, numbers, side="left"), minlength=len(self._counts))
        with np.errstate(over="ignore"):  # values near the end of the doubles add up to infinity
            self.total += float(numbers.sum())

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, number of values at or below it), as Prometheus wants it."""
        bounds = [*(_bound(edge) for edge in self._edges), "+Inf"]
        return list(zip(bounds, np.cumsum(self._counts).tolist(), strict=True))


def _bound(edge: float) -> str:
    """A bound as the exposition format writes it."""
    return floatToGoString(edge)  # type: ignore[no-untyped-call,no-any-return]  # the library leaves it untyped


_HELP = {
    "ml_feature_value": "Values of a feature, in buckets at the reference's quantiles",
    "ml_prediction_value": "Predicted values, or probabilities of the positive class",
    "ml_prediction_confidence": "Probability of the predicted class",
}
