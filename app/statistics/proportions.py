"""Tests of proportions, and the correction of p-values for many tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.statistics.order import FloatArray, IntArray

_REACH, _MIN_TERMS = 10, 30
"""Standard deviations, and terms, after which what is left of a tail is beyond the precision of a float."""


def share_p_values(reference: IntArray, n: int, window: IntArray, m: int) -> FloatArray:
    """Compute exact two-sided p-values of "these shares are equal".

    There is one for each pair of counts out of n and m.

    Twice the smaller tail of the hypergeometric distribution: Fisher (1935), doi:10.2307/2342435. Valid at any count.

    >>> share_p_values(np.array([100, 0]), 10_000, np.array([10, 3]), 1_000).round(6)
    array([1.      , 0.001499])
    """
    _, tail, _ = _outer_tail(reference, n, window, m)
    return np.minimum(2 * tail, 1.0)


def share_tails(reference: IntArray, n: int, window: IntArray, m: int) -> tuple[FloatArray, FloatArray]:
    """Compute one-sided p-values of "has not risen" and "has not fallen".

    There is one for each pair of counts out of n and m.

    Tails of the hypergeometric distribution that take half of the observed point: Lancaster's mid-p (1961),
    doi:10.1080/01621459.1961.10482105. Unlike Fisher's, which is careful, its level is right on average.

    >>> [tail.round(5).tolist() for tail in share_tails(np.array([100]), 10_000, np.array([24]), 1_000)]
    [[0.0002], [0.9998]]
    """
    high, tail, point = _outer_tail(reference, n, window, m)
    middle = tail - point / 2
    return np.where(high, middle, 1 - middle), np.where(high, 1 - middle, middle)


def _outer_tail(
    reference: IntArray, n: int, window: IntArray, m: int
) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
    """Give the side of its mean on which each count lies, and its tail probabilities.

    A tail is summed outwards from the count by the ratio of neighbouring terms, which is exact however small it is.
    """
    total = float(n + m)
    expected = (reference + window) * (m / total)
    high = window >= expected
    # The lower tail of the rows that are counted is the upper tail of those that are not.
    x, good = np.where(high, [window, reference + window], [m - window, n + m - reference - window]).astype(np.float64)
    deviation = np.sqrt(expected * (1 - expected / m) * n / total)
    steps = np.arange(int(_REACH * deviation.max(initial=0.0)) + _MIN_TERMS)[:, None]
    k = np.minimum(x + steps, np.minimum(good, m))
    ratios = (good - k) * (m - k) / ((k + 1) * np.maximum(total - good - m + k + 1, 1))
    point = np.exp(_log_choose(good, x) + _log_choose(total - good, m - x) - _log_choose(total, m))
    tail = point * (1 + np.cumprod(ratios, axis=0).sum(axis=0))
    return high, np.minimum(tail, 1.0), point


def _log_choose(n: FloatArray | float, k: FloatArray | float) -> FloatArray:
    return np.asarray(
        special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0), dtype=np.float64
    )


def normal_quantile(confidence: float) -> float:
    """Half-width, in standard errors, of a two-sided normal interval.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    return -float(special.ndtri((1 - confidence) / 2))


def smallest_p_value(p_values: FloatArray) -> float:
    """Compute Bonferroni's p-value of "none of these nulls is false".

    It is the smallest p-value times their number, at most 1.

    >>> smallest_p_value(np.array([0.01, 0.5]))
    0.02
    """
    return min(float(np.min(p_values)) * len(p_values), 1.0) if len(p_values) else 1.0


def widen(p_values: FloatArray, inflation: float) -> FloatArray:
    """Give one-sided p-values of normal statistics with a larger variance than assumed.

    ``Phi(z / sqrt(inflation))`` of the z behind each p-value.

    >>> widen(np.array([0.001]), 1.0).round(6), widen(np.array([0.001]), 4.0).round(3)
    (array([0.001]), array([0.061]))
    """
    return np.asarray(special.ndtr(special.ndtri(p_values) / np.sqrt(inflation)), dtype=np.float64)


def benjamini_hochberg(p_values: FloatArray) -> FloatArray:
    """Adjust p-values to control the false discovery rate, in the order given.

    ``min over j >= i of p_(j) n / j``: Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x. When no
    null is false, the chance of any adjusted value at or below alpha is at most alpha. P-values that were divided by
    weights of mean 1 keep this: Genovese, Roeder and Wasserman (2006), doi:10.1093/biomet/93.3.509.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(4)
    array([0.03, 0.04, 0.04])
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * count / np.arange(1, count + 1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(adjusted, 1.0)
