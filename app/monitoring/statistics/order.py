"""Tests of the order of two samples: sharp for shifts (Anderson-Darling) and for a change of scale (Mood).

``ranks`` are those of the window's m values among all N = n + m, ascending from 1, in the last axis of any shape.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import special

from app.monitoring.statistics.arrays import FloatArray, IntArray
from app.monitoring.statistics.tails import anderson_darling_tail, cramer_von_mises_tail

_MOOD_SKEWNESS = 0.6389
"""Skewness of (u - 1/2)^2 for uniform u."""


def anderson_darling(ranks: IntArray, n: int) -> FloatArray:
    """Anderson's and Darling's distance of two samples; 1 on average when nothing has changed.

    ``1/(n m) sum over i < N of (m i - j N)^2 / (i (N - i))``, where j counts the window's values among the i smallest:
    Pettitt (1976), doi:10.1093/biomet/63.1.161. By partial fractions the sum over each stretch between two of the
    window's values is a difference of harmonic numbers, so that only these values are visited.

    >>> anderson_darling(np.array([[3, 4, 6], [1, 2, 3]]), 5).round(4)
    array([0.647 , 3.0394])
    """
    m = ranks.shape[-1]
    total = n + m
    harmonic = _harmonic(1 << total.bit_length())
    odd = 2.0 * np.arange(m) + 1
    inner = harmonic[ranks - 1] @ odd + harmonic[total - ranks] @ odd[::-1]
    sums = float(m) ** 2 * (2 * total * harmonic[total - 1] - (total - 1)) - total * inner
    return np.asarray(sums / (float(n) * m), dtype=np.float64)


def anderson_darling_p_value(statistic: FloatArray, inflation: float = 1.0) -> FloatArray:
    """Probability of an Anderson-Darling distance this large when nothing has changed.

    The limit law (Pettitt 1976), which holds from about fifty values on, in the tail as well; careful (too large) with
    heavy ties.

    Args:
        inflation: how many times the variance is larger than that of independent rows.

    >>> [f"{anderson_darling_p_value(np.array(14.0), inflation):.1e}" for inflation in (1.0, 4.0)]
    ['2.1e-07', '1.5e-02']
    """
    return anderson_darling_tail(statistic / inflation)


def mood_z(ranks: IntArray, n: int) -> FloatArray:
    """Mood's scale statistic of the window, in standard errors; positive when the window is the wider one.

    Sum over the window of ``(rank - (N + 1) / 2)^2``, less its mean ``m (N^2 - 1) / 12``, over the root of its variance
    ``n m (N + 1)(N^2 - 4) / 180``: Mood (1954), doi:10.1214/aoms/1177728719.

    >>> mood_z(np.array([[1, 13], [6, 7]]), 11).round(2)
    array([ 2.62, -1.61])
    """
    m = ranks.shape[-1]
    total = float(n + m)
    sums = ((ranks - (total + 1) / 2) ** 2).sum(axis=-1)
    variance = n * m * (total + 1) * (total**2 - 4) / 180
    return np.asarray((sums - m * (total**2 - 1) / 12) / np.sqrt(variance), dtype=np.float64)


def mood_p_value(z: FloatArray, n: int, m: int, inflation: float = 1.0) -> FloatArray:
    """Two-sided p-value of Mood's statistic between n and m values when nothing has changed.

    Pearson's type III law with the statistic's skewness under sampling without replacement, since the normal one is
    wrong by half near 1e-6 at m = 100: Mielke and Berry (2007), doi:10.1007/978-0-387-69813-7.

    >>> f"{mood_p_value(np.array(5.0), 10_000, 1_000):.1e}"
    '8.1e-07'
    """
    skewness = _MOOD_SKEWNESS * (n - m) / np.sqrt(n * m * (n + m) / inflation)
    return np.minimum(2 * _pearson_tail(np.abs(z) / np.sqrt(inflation), np.sign(z) * skewness), 1.0)


def cramer_von_mises(ranks: IntArray, n: int) -> FloatArray:
    """Squared distance of the two distribution functions over the pooled sample; on average 1/6 under the null.

    ``1/(n m N^2) sum over i < N of (m i - j N)^2``, where j counts the window's values among the i smallest: Anderson
    (1962), doi:10.1214/aoms/1177704477.

    >>> cramer_von_mises(np.array([[4, 6, 8], [1, 2, 3]]), 5).round(4)
    array([0.2292, 0.6458])
    """
    m = ranks.shape[-1]
    total, rank = float(n + m), ranks.astype(np.float64)
    squares = m**2 * total * (total - 1) * (2 * total - 1) / 6
    crossed = (total * (total - 1) - rank * (rank - 1)).sum(axis=-1) / 2
    counted = (total - rank) @ (2.0 * np.arange(m) + 1)
    sums = squares - 2 * m * total * crossed + total**2 * counted
    return np.asarray(sums / (n * m * total**2), dtype=np.float64)


def cramer_von_mises_p_value(statistic: FloatArray, n: int, m: int) -> FloatArray:
    """Probability of a Cramér-von Mises distance this large between n and m values when nothing has changed.

    The limit law, after bringing the statistic's mean and variance at n and m to the limit's: Anderson (1962). Careful
    (too large) with heavy ties.

    >>> cramer_von_mises_p_value(np.array([0.2292, 0.9]), 5, 3).round(3)
    array([0.244, 0.003])
    """
    total = float(n + m)
    mean = (1 + 1 / total) / 6
    variance = (total + 1) / total**2 * (4 * n * m * total - 3 * (n**2 + m**2) - 2 * n * m) / (180.0 * n * m)
    return cramer_von_mises_tail((statistic - mean) / np.sqrt(45 * variance) + 1 / 6)


def _pearson_tail(z: FloatArray, skewness: FloatArray) -> FloatArray:
    """Upper tail of a gamma law brought to mean 0, variance 1 and this skewness, mirrored where that is negative."""
    straight = np.abs(skewness) < 1e-3  # noqa: PLR2004 - closer to the normal law than that law is to the truth
    shape = 4 / np.where(straight, 1.0, skewness) ** 2
    upper = special.gammaincc(shape, shape + z * np.sqrt(shape))
    lower = special.gammainc(shape, np.maximum(shape - z * np.sqrt(shape), 0.0))
    return np.where(straight, special.ndtr(-z), np.where(skewness > 0, upper, lower))


@lru_cache(maxsize=4)
def _harmonic(size: int) -> FloatArray:
    """The first harmonic numbers, from that of 0."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1.0, size))])
