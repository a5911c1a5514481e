"""Calibration error: how far shares promised lie from shares that came, with an interval that knows of its bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.monitoring.statistics import FloatArray, normal_quantile

BINS = 10
_STEPS = 200


@dataclass(frozen=True, slots=True)
class Calibration:
    """The gap between the share that came and the mean of what was promised, in bins of equal counts.

    Attributes:
        weights: share of the rows in each bin.
        gaps: share that came minus mean promise, by bin.
        errors: their standard errors.
    """

    weights: FloatArray
    gaps: FloatArray
    errors: FloatArray

    @classmethod
    def of(cls, promised: FloatArray, came: NDArray[np.bool_]) -> Calibration:
        """Compare probabilities with what came true; at least one row.

        The bins are those of ``sklearn.metrics.calibration_curve`` with ``strategy="quantile"``.
        """
        edges = np.quantile(promised, np.linspace(0, 1, BINS + 1)[1:-1])
        place = np.searchsorted(edges, promised)
        rows = np.bincount(place, minlength=BINS)
        used = rows > 0
        hits, sums = (np.bincount(place, weights=each, minlength=BINS)[used] for each in (came, promised))
        rows = rows[used]
        share = (hits + 0.5) / (rows + 1)
        return cls(rows / len(promised), (hits - sums) / rows, np.sqrt(share * (1 - share) / rows))

    @property
    def value(self) -> float:
        """Expected calibration error: ``sum_b n_b / n |share_b - promise_b|``, Naeini et al. (2015), AAAI, 2901-2907.

        >>> Calibration.of(np.full(10, 0.5), np.arange(10) < 7).value
        0.2
        """
        return float(np.sum(self.weights * np.abs(self.gaps)))

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval of the true error.

        Chance alone opens gaps, so that the value found lies above the truth. Kept are the true errors under which it
        is no surprise: gaps of the shape found, levelled by their noise and scaled from none to large, each seen
        through a normal law, whose absolute value has the mean and variance of Leone et al. (1961),
        doi:10.2307/1266560.
        """
        shape = np.sqrt(self.gaps**2 + self.errors**2)
        scale = np.linspace(0, 1, _STEPS)[:, np.newaxis] ** 2 * (1 + 20 * self.errors.max()) / shape.max()
        gaps = scale * shape
        ratio = gaps / self.errors
        means = self.errors * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + gaps * (1 - 2 * special.ndtr(-ratio))
        centre = means @ self.weights
        spread = np.sqrt((gaps**2 + self.errors**2 - means**2) @ self.weights**2)
        half = normal_quantile(confidence) * spread
        truth = gaps @ self.weights
        low, high = (float(np.interp(self.value, centre + side, truth)) for side in (half, -half))
        return low, min(max(high, self.value), 1.0)
