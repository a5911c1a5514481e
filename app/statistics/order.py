"""Tests of two samples by the order of their values.

Kolmogorov-Smirnov, Anderson-Darling, Mood and Cramér-von Mises.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """A reference of n and a window of m values, both sorted ascending, finite and not empty.

    Only the window's values are visited, so everything here costs m log n.
    """

    reference: FloatArray
    window: FloatArray

    @property
    def n(self) -> int:
        """The size of the reference."""
        return len(self.reference)

    @property
    def m(self) -> int:
        """The size of the window."""
        return len(self.window)

    @cached_property
    def start(self) -> IntArray:
        """Window values below each distinct value of the window."""
        new = np.empty(self.m, dtype=np.bool_)
        new[0] = True
        np.not_equal(self.window[1:], self.window[:-1], out=new[1:])
        return np.flatnonzero(new)

    @cached_property
    def end(self) -> IntArray:
        """Window values up to each distinct value of the window."""
        return np.append(self.start[1:], self.m)

    @cached_property
    def below(self) -> IntArray:
        """Reference values below each distinct value of the window."""
        return np.searchsorted(self.reference, self.window[self.start], "left")

    @cached_property
    def upto(self) -> IntArray:
        """Reference values up to each distinct value of the window."""
        values, upto = self.window[self.start], self.below.copy()
        tied = np.flatnonzero(self.reference[np.minimum(upto, self.n - 1)] == values)
        upto[tied] = np.searchsorted(self.reference, values[tied], "right")
        return upto

    @cached_property
    def ranks(self) -> IntArray:
        """Ranks of the window's values in the pooled order, from 1, shape (m,).

        Where values are tied, the window's are spread evenly among them: of all orders this is about the one in which
        the samples differ least, so that tests on it are careful.

        >>> Pair(np.array([1.0, 2.0, 2.0, 2.0, 2.0, 3.0]), np.array([0.0, 2.0, 2.0])).ranks.tolist()
        [1, 4, 7]
        """
        begin, own = self.below + self.start, self.end - self.start
        size = own + self.upto - self.below
        if len(begin) == self.m and not np.any(size > 1):
            return begin + 1
        place = np.arange(self.m) - np.repeat(self.start, own)
        spread = (2 * place + 1) * np.repeat(size, own) // (2 * np.repeat(own, own))
        return np.asarray(np.repeat(begin, own) + spread + 1, dtype=np.int64)


_INTERVALS, _NODES = 16, 24
_CONVERGED = 20.0
"""Exponent from which terms no longer count; where even the last one counts, so small an x is exceeded for certain."""


def anderson_darling_tail(x: FloatArray) -> FloatArray:
    """Probability that the limit of Anderson's and Darling's statistic exceeds x, of any shape.

    The law of ``sum chi-square_1 / (k (k + 1))`` over k >= 1: Anderson and Darling (1952), doi:10.1214/aoms/1177729437.

    >>> anderson_darling_tail(np.array([2.492, 3.878])).round(4)
    array([0.05, 0.01])
    """
    return _sum(_anderson_darling(), x)


def _sum(exponentials: tuple[FloatArray, FloatArray], x: FloatArray) -> FloatArray:
    nodes, weights = exponentials
    certain = _CONVERGED / nodes.max()
    sums = np.exp(-np.maximum(x, certain)[..., None] * nodes) @ weights
    return np.asarray(np.clip(sums, 0.0, 1.0), dtype=np.float64)


@lru_cache(maxsize=1)
def _anderson_darling() -> tuple[FloatArray, FloatArray]:
    k = np.arange(1.0, 2 * _INTERVALS + 1)
    nodes, roots = _nodes(k * (k + 1) / 2)
    determinant = np.cos(np.pi / 2 * np.sqrt(1 + 8 * nodes)) / (2 * np.pi * nodes)
    return _weighted(nodes, roots, determinant)


def _nodes(poles: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give Chebyshev's nodes from each odd pole to the next even one, and their weights."""
    left, right = poles.reshape(-1, 2, 1).swapaxes(0, 1)
    angles = (2 * np.arange(_NODES) + 1) / (2 * _NODES) * np.pi
    nodes = (left + right) / 2 + (right - left) / 2 * np.cos(angles)
    return nodes, (right - left) / 2 * np.sin(angles)


def _weighted(nodes: FloatArray, roots: FloatArray, determinant: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Write a tail as a sum of exponentials in x.

    Smirnov's formula integrates ``exp(-u x) / (pi u sqrt|D(u)|)`` from each odd root of D to the next even one, with
    alternating signs; D is the product of ``1 - u / root``. See Durbin and Knott (1972),
    doi:10.1111/j.2517-6161.1972.tb00908.x.
    """
    signs = (-1.0) ** np.arange(len(nodes))[:, None]
    weights = signs * roots / (_NODES * nodes * np.sqrt(np.abs(determinant)))
    return nodes.ravel(), weights.ravel()


def middle_ranks(values: FloatArray) -> FloatArray:
    """Rank finite values from 1 on; equal values share the mean of their ranks.

    The same as ``scipy.stats.rankdata``, whose import alone takes 0.4 s and 46 MiB.

    >>> middle_ranks(np.array([0.5, 7.0, 7.0, 1.0]))
    array([1. , 3.5, 3.5, 2. ])
    """
    order = np.argsort(values)
    new = np.diff(values[order], prepend=np.nan) != 0
    ends = np.append(np.flatnonzero(new), len(values))
    ranks = np.empty(len(values))
    ranks[order] = ((ends[:-1] + ends[1:] + 1) / 2)[np.cumsum(new) - 1]
    return ranks


def ks_statistic(pair: Pair) -> float:
    """Largest distance of the two distribution functions: Kolmogorov and Smirnov.

    Only the window's values are visited, from both sides of each step.

    >>> ks_statistic(Pair(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0])))
    0.5
    """
    above = pair.end / pair.m - pair.upto / pair.n
    below = pair.below / pair.n - pair.start / pair.m
    return float(max(above.max(), below.max()))


def ks_noise_floor(n: int, m: int) -> float:
    """Give the KS distance to expect when nothing has changed.

    It is ``sqrt(pi / 2) ln 2 sqrt(1/n + 1/m)``, Kolmogorov's mean.

    >>> round(ks_noise_floor(10_000, 1_000), 4)
    0.0288
    """
    return float(np.sqrt(np.pi / 2 * (1 / n + 1 / m)) * np.log(2))


def rank_auc(ranks: FloatArray, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by the rank sum.

    It is the chance that a positive row ranks above another one.

    ``(R - n (n + 1) / 2) / (n m)``, where R is the sum of the ranks of the n positive rows among all n + m: Mann and
    Whitney (1947), doi:10.1214/aoms/1177730491.

    Args:
        ranks: of the scores, from 1, tied ones at their middle rank; shape (rows,).
        positive: which rows are positive; at least one is, and at least one is not.

    >>> rank_auc(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True]))
    0.75
    """
    count = int(positive.sum())
    total = float(ranks[positive].sum())
    return (total - count * (count + 1) / 2) / (count * (len(ranks) - count))


_ROUNDING_OF_RANKS = 1e-9
"""Below this, the spread of ranks, which are shares, is an error of arithmetic: all scores are equal."""


def mann_whitney(ours: FloatArray, theirs: FloatArray, worth: tuple[float, float]) -> tuple[float, float]:
    """Compute the AUC of two samples of scores and its z-value, with ties at their middle rank.

    Formula:
        ``(AUC - 1/2) / (s sqrt(1/n + 1/m))`` with the standard deviation s of the ranks, as shares.

    Args:
        ours, theirs: scores of the reference and of the window, not empty.
        worth: n and m, the independent rows that each side is worth.

    Returns:
        The AUC and the z-value; z is 0 where all scores are equal.

    Reference:
        Mann and Whitney (1947), doi:10.1214/aoms/1177730491.

    Example:
        >>> auc, z = mann_whitney(np.arange(50.0), np.arange(50.0) + 10, (50, 50))
        >>> round(auc, 3), round(z, 2)
        (0.68, 3.1)
    """
    ranks = middle_ranks(np.concatenate([ours, theirs]))
    error = float(np.std(ranks / len(ranks), ddof=1)) * np.sqrt(1 / worth[0] + 1 / worth[1])
    auc = rank_auc(ranks, np.arange(len(ranks)) >= len(ours))
    return auc, float((auc - 0.5) / error) if error > _ROUNDING_OF_RANKS else 0.0


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
    """Compute Mood's scale statistic of the window in standard errors.

    It is positive when the window is the wider one.

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
    """Compute the Cramér-von Mises distance over the pooled sample.

    Its mean under the null is 1/6.

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


def _pearson_tail(z: FloatArray, skewness: FloatArray) -> FloatArray:
    """Compute the upper tail of a gamma law of mean 0, variance 1 and this skewness.

    A negative skewness mirrors it.
    """
    straight = np.abs(skewness) < 1e-3  # noqa: PLR2004 - closer to the normal law than that law is to the truth
    shape = 4 / np.where(straight, 1.0, skewness) ** 2
    upper = special.gammaincc(shape, shape + z * np.sqrt(shape))
    lower = special.gammainc(shape, np.maximum(shape - z * np.sqrt(shape), 0.0))
    return np.where(straight, special.ndtr(-z), np.where(skewness > 0, upper, lower))


@lru_cache(maxsize=4)
def _harmonic(size: int) -> FloatArray:
    """The first harmonic numbers, from that of 0."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1.0, size))])
