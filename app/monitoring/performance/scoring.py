"""Rows with their labels and scores, and label delay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.figures.performance import METRIC, TARGET_UNIT
from app.monitoring.performance.metrics import metrics, unit_of
from app.monitoring.performance.standard_errors import spread
from app.monitoring.reference.columns import finite
from app.monitoring.reference.encoding import encode_labels, encode_outcomes, encode_probabilities
from app.reports.performance import LabelDelay, MetricError, UnknownClasses
from app.statistics import FloatArray, IntArray
from app.statistics.intervals import Interval
from app.store.queries.labelled import Labelled
from app.types import SECOND, Label, Micros, ModelSchema, Task, label_key


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's value, and its interval; None where the rows leave it undefined."""

    value: float | None
    interval: Interval | None

    def times(self, unit: float) -> Measured:
        """Give the metric of rows that were divided by this unit."""
        value = None if self.value is None else finite(self.value * unit)
        return Measured(value, None if self.interval is None or value is None else InUnit(self.interval, unit))


@dataclass(frozen=True, slots=True)
class InUnit:
    """Hold the interval of a metric that was measured in a unit."""

    interval: Interval
    unit: float

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval."""
        low, high = self.interval.bounds(confidence)
        return low * self.unit, high * self.unit

    def widened(self, ratio: float) -> InUnit:
        """Give the same interval with this multiple of its variance."""
        return replace(self, interval=self.interval.widened(ratio))


@dataclass(frozen=True, slots=True)
class Scored:
    """Hold outcomes, predictions and probabilities as arrays; every outcome is there.

    Attributes:
        unknown: classes that the model lacks, whose codes stand behind those of the schema's classes.
        copies: how often each row counts; None: once.
    """

    schema: ModelSchema
    outcomes: NDArray[Any]
    predictions: NDArray[Any]
    probabilities: FloatArray | None
    unknown: tuple[Label, ...] = ()
    copies: IntArray | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.outcomes)

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Scored:
        """Keep some of the rows, by a mask or by their positions."""
        probabilities = None if self.probabilities is None else self.probabilities[chosen]
        copies = None if self.copies is None else self.copies[chosen]
        return Scored(self.schema, self.outcomes[chosen], self.predictions[chosen], probabilities, self.unknown, copies)

    def measure(self, *, ordered: bool = True) -> dict[str, Measured]:
        """Compute every metric of the task with its interval; nothing without rows.

        ``ordered`` tells that rows are in order of time, so that neighbours tell how independent they are. Numbers
        whose squares no double holds are measured in a unit of their size.
        """
        if not self.rows:
            return {}
        unit = unit_of(self.schema, self.outcomes, self.predictions)
        if unit == 1.0:
            return self._measured(ordered=ordered)
        scaled = replace(self, outcomes=self.outcomes / unit, predictions=self.predictions / unit)
        found = scaled._measured(ordered=ordered)  # noqa: SLF001 - of this class
        found |= {name: each.times(unit) for name, each in found.items() if METRIC[name].unit == TARGET_UNIT}
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return found | {"mape": self._measured(ordered=ordered)["mape"]}

    def _measured(self, *, ordered: bool) -> dict[str, Measured]:
        places = np.repeat(np.arange(self.rows), 1 if self.copies is None else self.copies)
        shares = None if self.probabilities is None else self.probabilities[places]
        arrays = (self.outcomes[places], self.predictions[places], shares)
        values = metrics(self.schema, *arrays)
        sure = spread(self.schema, *arrays, values, ordered=ordered, copies=self.copies)
        return {name: Measured(value, sure.get(name)) for name, value in values.items()}

    def unknown_classes(self) -> UnknownClasses | None:
        """Count the outcomes of classes that the model lacks; None where there are none."""
        size = len(self.schema.classes)
        counts = np.bincount(self.outcomes[self.outcomes >= size] - size) if self.unknown else np.empty(0, np.int64)
        if not counts.sum():
            return None
        named = zip(self.unknown, counts.tolist(), strict=False)
        classes = {label_key(label): count for label, count in named if count}
        share = int(counts.sum()) / self.rows
        message = f"{_percent(share)} of outcomes are of a class this model does not know: {_listed(list(classes))}"
        return {"rows": int(counts.sum()), "share": share, "classes": classes, "message": message}


MAX_NAMED_CLASSES = 3


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"  # noqa: PLR2004 - 1e+02 from there on


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MAX_NAMED_CLASSES} more" if len(names) > MAX_NAMED_CLASSES else ""
    return ", ".join(names[:MAX_NAMED_CLASSES]) + rest


def known(schema: ModelSchema, outcomes: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which encoded outcomes are there; of a number, those that are one."""
    return np.isfinite(outcomes) if schema.task is Task.REGRESSION else outcomes >= 0


def score(schema: ModelSchema, window: Labelled, errors: list[MetricError]) -> tuple[Scored, NDArray[np.bool_]]:
    """Encode all rows, and tell whose outcome is known.

    ``errors`` lists what is left out.
    """
    (outcomes, unknown), predictions = (
        encode_outcomes(schema, window.outcomes),
        encode_labels(schema, window.predictions),
    )
    chosen = known(schema, outcomes)
    given = np.array([outcome is not None for outcome in window.outcomes], dtype=np.bool_)
    if strange := int((given & ~chosen).sum()):
        errors.append({"metric": None, "reason": f"{strange} outcomes are no answer that this model can give"})
    probabilities = encode_probabilities(schema, window.probabilities)
    if probabilities is not None and np.isnan(probabilities[chosen]).any():
        errors.append({"metric": None, "reason": "some rows have no probabilities: their metrics are left out"})
        probabilities = None
    rows = Scored(schema, outcomes, predictions, probabilities, unknown)
    if (found := rows.only(chosen).unknown_classes()) is not None:
        errors.append({"metric": None, "reason": found["message"]})
    return rows, chosen


def label_delays(window: Labelled) -> LabelDelay:
    """Measure the label delay in seconds: the median and the 95th percentile."""
    came = np.array([-1 if recorded is None else recorded for recorded in window.recorded_at], dtype=np.int64)
    if not (came >= 0).any():
        return {"p50": None, "p95": None}
    delays = (came - np.array(window.predicted_at, dtype=np.int64))[came >= 0] / SECOND
    middle, late = np.quantile(delays, (0.5, 0.95)).tolist()
    return {"p50": middle, "p95": late}


def is_mature(window: Labelled, delay_s: float | None, now: Micros) -> bool:
    """Tell whether even the newest row has had the time that outcomes take.

    Else the fast labels speak for all.
    """
    return delay_s is not None and window.rows > 0 and now - window.predicted_at[-1] >= delay_s * SECOND
