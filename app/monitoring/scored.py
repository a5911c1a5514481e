"""Answers whose truth is known: encoded rows, their metrics, and how sure these are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.intervals import Interval
from app.monitoring.metrics import metrics
from app.monitoring.spread import spread
from app.monitoring.statistics import FloatArray
from app.types import ModelSchema, Task


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's value, and its interval; None where the rows leave it undefined."""

    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Scored:
    """Outcomes, predictions and probabilities as :mod:`app.monitoring.encoding` gives them; every outcome is known."""

    schema: ModelSchema
    outcomes: NDArray[Any]
    predictions: NDArray[Any]
    probabilities: FloatArray | None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.outcomes)

    def only(self, chosen: NDArray[np.bool_]) -> Scored:
        """Keep some of the rows."""
        probabilities = None if self.probabilities is None else self.probabilities[chosen]
        return Scored(self.schema, self.outcomes[chosen], self.predictions[chosen], probabilities)

    def measure(self) -> dict[str, Measured]:
        """Compute every metric of the task with its interval; nothing without rows."""
        if not self.rows:
            return {}
        arrays = (self.outcomes, self.predictions, self.probabilities)
        values = metrics(self.schema, *arrays)
        sure = spread(self.schema, *arrays, values)
        return {name: Measured(value, sure.get(name)) for name, value in values.items()}


def known(schema: ModelSchema, outcomes: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which encoded outcomes are there, and are an answer that the model can give."""
    return np.isfinite(outcomes) if schema.task is Task.REGRESSION else outcomes >= 0
