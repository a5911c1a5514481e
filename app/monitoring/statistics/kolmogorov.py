"""The largest distance of two distribution functions, with what it is when nothing has changed."""

from __future__ import annotations

import numpy as np
from scipy import stats

from app.monitoring.statistics.pair import Pair


def ks_statistic(pair: Pair) -> float:
    """Largest distance of the two distribution functions: Kolmogorov and Smirnov.

    Only the window's values are visited, from both sides of each step.

    >>> ks_statistic(Pair(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0])))
    0.5
    """
    above = pair.end / pair.m - pair.upto / pair.n
    below = pair.below / pair.n - pair.start / pair.m
    return float(max(above.max(), below.max()))


def ks_p_value(distance: float, n: int, m: int) -> float:
    """Two-sided p-value of a two-sample KS distance between n and m values; careful (too large) with ties.

    The one-sample law of Simard and L'Ecuyer (2011), doi:10.18637/jss.v039.i11, at the effective size n m / (n + m).

    >>> f"{ks_p_value(0.1, 10_000, 1_000):.2e}"
    '2.30e-08'
    """
    return float(stats.kstwo.sf(distance, max(round(n * m / (n + m)), 1)))


def ks_noise_floor(n: int, m: int) -> float:
    """Expect this KS distance when nothing has changed: ``sqrt(pi / 2) ln 2 sqrt(1/n + 1/m)``, Kolmogorov's mean.

    >>> round(ks_noise_floor(10_000, 1_000), 4)
    0.0288
    """
    return float(np.sqrt(np.pi / 2 * (1 / n + 1 / m)) * np.log(2))
