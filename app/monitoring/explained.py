"""The interval of R squared, which is made of two means of the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from app.monitoring.intervals import Mean
from app.monitoring.statistics import FloatArray


@dataclass(frozen=True, slots=True)
class Explained:
    """R squared, 1 minus a ratio of two means: squared errors over squared deviations of the same rows.

    The intervals of both means are put together on the scale of their logarithms, with their correlation: the method of
    variance estimates recovery, Zou and Donner (2008), doi:10.1002/sim.3095.
    """

    errors: Mean
    deviations: Mean
    correlation: float

    @classmethod
    def of(cls, squares: FloatArray, deviations: FloatArray) -> Explained:
        """Take the squared errors and the squared deviations from the mean."""
        varied = float(squares.std()) > 0 and float(deviations.std()) > 0
        correlation = float(np.corrcoef(squares, deviations)[0, 1]) if varied else 0.0
        return cls(Mean.of(squares, 0.0), Mean.of(deviations, 0.0), correlation)

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval; where nothing is certain, all that is possible."""
        if not self.errors.value or not self.deviations.value:
            return (1.0, 1.0) if self.deviations.value else (-math.inf, 1.0)
        ratio = self.errors.value / self.deviations.value
        above, below = (_log_sides(mean, confidence) for mean in (self.errors, self.deviations))
        more = _recovered(above[1], below[0], self.correlation)
        less = _recovered(above[0], below[1], self.correlation)
        return 1 - ratio * _exp(more), 1 - ratio * _exp(-less)


def _log_sides(mean: Mean, confidence: float) -> tuple[float, float]:
    low, high = mean.bounds(confidence)
    return math.log(mean.value / low) if low > 0 else math.inf, math.log(high / mean.value)


def _recovered(one: float, other: float, correlation: float) -> float:
    if math.inf in (one, other):
        return math.inf
    return math.sqrt(max(one**2 + other**2 - 2 * correlation * one * other, 0.0))


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf  # noqa: PLR2004 - beyond the largest float
