"""Count feature values, predictions and confidence in histograms.

The buckets of a feature are the reference's quantiles.

Thirty observations a request would cost more than the prediction. Rows are kept as they are and counted with NumPy,
many at once: every few hundred rows, and before each scrape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from app.metrics import add_histogram
from app.serving.runtimes.base import matrix_of
from app.types import Answer, ModelSchema, Prediction, Row

FOLD_ROWS = 512
SHARE_BUCKETS = tuple(step / 20 for step in range(1, 20))


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
        families: dict[str, HistogramMetricFamily] = {}
        for values in self._served:
            values.enter(families)
        yield from families.values()


class ValueHistograms:
    """The value histograms of one model version.

    Args:
        edges: for each numeric feature the upper bounds of its buckets.
        prediction_edges: the same for the prediction (regression), or for the probability of the positive class.
    """

    def __init__(
        self, schema: ModelSchema, edges: dict[str, Sequence[float]], prediction_edges: Sequence[float]
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
        self._kept: list[Prediction] = []
        self._lock = threading.Lock()

    def observe(self, rows: Sequence[Prediction]) -> None:
        """Count stored rows."""
        with self._lock:
            self._kept += rows
            full = len(self._kept) >= FOLD_ROWS
        if full:
            self._fold()

    def enter(self, families: dict[str, HistogramMetricFamily]) -> None:
        """Add the histograms as they stand to the families by name."""
        self._fold()
        version = {"model_name": self._schema.name, "model_version": self._schema.version}
        for (family, feature), buckets in self._series.items():
            labels = version | ({"feature_name": feature} if feature else {})
            made = families.setdefault(family, HistogramMetricFamily(family, _HELP[family], labels=list(labels)))
            add_histogram(made, labels, buckets.cumulative(), buckets.total)

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


def _picker(positions: Sequence[int], columns: int) -> Callable[[Row], Row] | None:
    """Make a function that takes the values at these positions out of a row, or None for all."""
    if len(positions) == columns:
        return None
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda row: [row[position] for position in positions]


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
