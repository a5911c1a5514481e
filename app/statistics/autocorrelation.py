"""Correlation of rows, in time and within groups, and the independent rows they are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from app.statistics import FloatArray, IntArray

_CONFIDENCE = 1.645
"""Standard errors of a one-sided bound of 95 %."""
_NOISE = 2.5
"""Standard errors that a sum of autocorrelations must exceed to be more than the noise of independent rows."""


_SLOW_CONFIDENCE = 2.33
"""The same of 99 %, for a column of few independent rows: its verdict asks for tails that 95 % would not hold."""


def effective_rows(values: FloatArray, confidence: float = _CONFIDENCE) -> float:
    """Count the independent rows that a time series is worth, with 95 % confidence.

    ``n / (1 + 2 sum rho_t)`` with the autocorrelations rho of the ranks, so that outliers and units do not matter. The
    sum ends before the first pair of neighbouring lags that is not positive: Geyer's initial positive sequence (1992),
    doi:10.1214/ss/1177011137. Its standard error, relative, is ``sqrt(2 (2 M + 1) / n)`` at M lags: Madras and Sokal
    (1988), doi:10.1007/BF01022990. A sum that independent rows give as well counts as none.

    Args:
        values: shape (n,); missing ones (NaN) are left out.
        confidence: standard errors of the bound.

    Returns:
        At most the number of present values n, and n for a constant; 0 where there are none.

    >>> effective_rows(np.random.default_rng(0).normal(size=1000))
    1000.0
    >>> walk = np.repeat(np.random.default_rng(0).normal(size=200), 5)
    >>> 100 < effective_rows(walk) < 200
    True
    """
    present = values[~np.isnan(values)]
    n = len(present)
    correlations = autocorrelations(present)
    lags = _initial_positive(correlations)
    excess = 2 * float(correlations[:lags].sum())
    if excess <= _NOISE * 2 * math.sqrt(lags / max(n, 1)):
        return float(n)
    bound = (1 + excess) * (1 + confidence * math.sqrt(2 * (2 * lags + 1) / n))
    return max(n / bound, 1.0)


def autocorrelations(values: FloatArray) -> FloatArray:
    """Compute the autocorrelation of the ranks at the lags 1 to n - 1.

    A constant series has zeros.

    By the fast Fourier transform, at the cost of n log n; ties share their middle rank.

    >>> autocorrelations(np.array([1.0, 2.0, 3.0, 4.0])).round(3)
    array([ 0.25, -0.3 , -0.45])
    """
    n = len(values)
    ranks, distinct = _centred_ranks(values)
    if distinct < 2:  # noqa: PLR2004 - a constant has no variance to divide by
        return np.zeros(max(n - 1, 0))
    length = fft.next_fast_len(2 * n, real=True)
    spectrum = fft.rfft(ranks, length)
    sums = fft.irfft(spectrum.real**2 + spectrum.imag**2, length)[:n]
    return np.asarray(sums[1:] / sums[0], dtype=np.float64)


def _centred_ranks(values: FloatArray) -> tuple[FloatArray, int]:
    """Give the middle ranks around their mean, and the number of distinct values."""
    order = np.argsort(values)
    new = np.diff(values[order], prepend=np.nan) != 0
    ends = np.append(np.flatnonzero(new), len(values))
    ranks = np.empty(len(values))
    ranks[order] = (((ends[:-1] + ends[1:]) - len(values)) / 2)[np.cumsum(new) - 1]
    return ranks, len(ends) - 1


def _initial_positive(correlations: FloatArray) -> int:
    """Count the lags before the first pair (2k, 2k + 1) whose sum is not positive.

    Lag 0 is one, and pairs with lag 1.
    """
    pairs = correlations[1 : 1 + (len(correlations) - 1) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ended = np.flatnonzero(pairs <= 0)
    return min(1 + 2 * int(ended[0] if len(ended) else len(pairs)), len(correlations))


_GROUP_ALPHA, _GROUP_BOUND = 0.01, 0.05
_EXACT = 1e-12
"""Share of a sum of squares below which it is an error of arithmetic."""


def group_share(values: FloatArray, groups: IntArray) -> float:
    """Compute the independent rows per row where rows of one group resemble each other.

    Formula:
        ``1 / (1 + (a - 1) r)`` with ``a = sum n_g^2 / n``, the mean size of the group of a row, and the upper bound of
        95 % of the intraclass correlation r of the ranks, ``(F - 1) / (F + n_0 - 1)`` by the analysis of variance.

    Args:
        values: shape (n,); missing ones (NaN) are left out.
        groups: the number of each row's group, from 0 on; shape (n,).

    Returns:
        From 1/n to 1; it is 1 where groups differ by chance alone, at 1 %.

    Reference:
        Kish (1965), "Survey Sampling"; Shrout and Fleiss (1979), doi:10.1037/0033-2909.86.2.420.

    Example:
        >>> groups = np.repeat(np.arange(20), 50)
        >>> group_share(groups.astype(np.float64), groups)
        0.02
    """
    known = ~np.isnan(values)
    sizes = np.bincount(groups[known])
    sizes = sizes[sizes > 0]
    n, count = int(sizes.sum()), len(sizes)
    if count < 1 or n == count:
        return 1.0
    if count == 1:
        return 1 / n
    ranks, distinct = _centred_ranks(values[known])
    if distinct < 2:  # noqa: PLR2004 - a constant says nothing of its rows
        return 1.0
    sums = np.bincount(groups[known], weights=ranks)
    between = float((sums[sums != 0] ** 2 / np.bincount(groups[known])[sums != 0]).sum())
    total, mean_size = float(ranks @ ranks), float((sizes**2).sum()) / n
    within = total - between
    if within <= _EXACT * total:
        return 1 / mean_size
    freedom = count - 1, n - count
    ratio = between / freedom[0] / (within / freedom[1])
    if special.fdtrc(*freedom, ratio) > _GROUP_ALPHA:
        return 1.0
    bound, size = ratio / special.fdtri(*freedom, _GROUP_BOUND), (n - mean_size) / freedom[0]
    return 1 / (1 + (mean_size - 1) * float((bound - 1) / (bound + size - 1)))


_PARTS, _MIN_ROWS_PER_PART = 4, 100
_MAX_ROWS = 2000
_MAX_CODES = 8
MIN_INDEPENDENT_ROWS = 50
"""Independent rows below which a column's quiet window has no verdict."""


class Inflation(NamedTuple):
    """Hold the variance inflation of a test of the values, and of the missing ones.

    It is the ratio to the variance with independent rows.
    """

    values: float
    gaps: float


@dataclass(frozen=True, slots=True)
class Independence:
    """Independent rows per row, from 0 to 1.

    Attributes:
        values: by what the values are.
        gaps: by which of them are missing.
    """

    values: float = 1.0
    gaps: float = 1.0

    @classmethod
    def of(cls, column: NDArray[Any]) -> Independence:
        """Measure an encoded column whose rows are in order of time.

        The latest rows, which are enough to see that neighbours are alike. Where they are, each quarter by itself, then
        the median: a drift that begins within the window makes its rows alike as well, and must not excuse itself. A
        quarter is too short for a memory of hundreds of rows: where the rows are worth fewer than
        :data:`MIN_INDEPENDENT_ROWS`, all of them are asked at once, and with a wider bound.
        """
        if column.dtype.kind != "f":
            return cls(*[_worth(column.astype(np.float64))] * 2)
        missing = np.isnan(column)
        return cls(_worth(column), _worth(missing.astype(np.float64)) if missing.any() else 1.0)

    @classmethod
    def of_groups(cls, column: NDArray[Any], groups: IntArray) -> Independence:
        """Measure an encoded column by groups; of categories, each frequent one by itself."""
        if column.dtype.kind != "f":
            codes, counts = np.unique(column, return_counts=True)
            frequent = codes[np.argsort(-counts, kind="stable")][:_MAX_CODES]
            share = min(group_share((column == code).astype(np.float64), groups) for code in frequent)
            return cls(share, share)
        missing = np.isnan(column)
        gaps = group_share(missing.astype(np.float64), groups) if missing.any() else 1.0
        return cls(group_share(column, groups), gaps)

    def at_most(self, share: float) -> Independence:
        """Count no more than a share of the rows, whatever their order says."""
        return Independence(min(self.values, share), min(self.gaps, share))

    def and_at_most(self, other: Independence) -> Independence:
        """Count no more rows than another measure does."""
        return Independence(min(self.values, other.values), min(self.gaps, other.gaps))

    def inflation(self, rows: int, reference: Independence, reference_rows: int) -> Inflation:
        """Compute the inflation of a difference between this sample and a reference."""
        ours = rows / (rows + reference_rows)
        return Inflation(
            ours / reference.values + (1 - ours) / self.values, ours / reference.gaps + (1 - ours) / self.gaps
        )


def _worth(column: FloatArray) -> float:
    latest = column[-_MAX_ROWS:]
    parts = min(_PARTS, len(latest) // _MIN_ROWS_PER_PART)
    whole = _share(latest)
    if whole == 1.0 or not parts:
        return whole
    median = float(np.median([_share(part) for part in np.array_split(latest, parts)]))
    return median if median * len(column) >= MIN_INDEPENDENT_ROWS else _share(latest, _SLOW_CONFIDENCE)


def _share(part: FloatArray, confidence: float = _CONFIDENCE) -> float:
    present = int(np.count_nonzero(~np.isnan(part)))
    return effective_rows(part, confidence) / present if present else 1.0
