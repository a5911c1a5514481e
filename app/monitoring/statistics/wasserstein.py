"""The Wasserstein distance in robust units, with what it is when nothing has changed."""

from __future__ import annotations

import numpy as np

from app.monitoring.statistics.arrays import FloatArray

_LEVELS = 4096


class RobustScale:
    """A reference's quantiles, trimmed and in robust units: what its Wasserstein distances share.

    Args:
        reference: sorted ascending, finite and not empty.
    """

    def __init__(self, reference: FloatArray) -> None:
        quantiles = _quantiles(reference)
        self._low, first, self._centre, third, self._high = np.quantile(quantiles, (0.001, 0.25, 0.5, 0.75, 0.999))
        self._unit = max((third - first) / 1.349, np.finfo(np.float64).eps * max(1.0, abs(self._centre)))
        self._reference = self._standard(quantiles)
        share = np.arange(1, _LEVELS) / _LEVELS
        self._roughness = float(np.sqrt(share * (1 - share)) @ np.diff(self._reference))

    def wasserstein(self, window: FloatArray) -> float:
        """Mean distance of the quantiles of two samples, in robust standard deviations of the reference.

        At 4,096 levels; the window is sorted ascending and not empty. Values are clipped to the reference's 0.1 and
        99.9 % quantiles first, so that one absurd value weighs no more than the tail does, and divided by the
        interquartile range over 1.349. On a line this is the area between the distribution functions: Vallender (1974),
        doi:10.1137/1118101.

        >>> round(RobustScale(np.arange(1001.0)).wasserstein(np.arange(1001.0) + 100), 2)
        0.26
        """
        return float(np.abs(self._standard(_quantiles(window)) - self._reference).mean())

    def noise_floor(self, n: int, m: int) -> float:
        """Expect this distance between n and m values when nothing has changed.

        ``sqrt(2/pi (1/n + 1/m))`` times the integral of ``sqrt(F (1 - F))``, since at each point the difference is
        about normal: del Barrio, Giné and Matrán (1999), doi:10.1214/aop/1022677394.

        >>> round(RobustScale(np.linspace(0, 1, 1001)).noise_floor(1_000, 1_000), 3)
        0.038
        """
        return self._roughness * float(np.sqrt(2 / np.pi * (1 / n + 1 / m)))

    def _standard(self, values: FloatArray) -> FloatArray:
        return np.asarray((np.clip(values, self._low, self._high) - self._centre) / self._unit, dtype=np.float64)


def _quantiles(ordered: FloatArray) -> FloatArray:
    """Values at the middles of as many equal shares of a sorted sample as there are levels."""
    return ordered[(2 * np.arange(_LEVELS) + 1) * len(ordered) // (2 * _LEVELS)]
