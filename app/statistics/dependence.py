"""Errors that depend on their neighbours in time, and intervals that allow for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import fft, special

from app.statistics import FloatArray
from app.statistics.intervals import Interval

_NOISE = 3.0
"""Standard errors that a sum of autocorrelations must exceed to be more than the noise of independent rows."""
_PARTS, _MIN_ROWS = 4, 100
_MIN_TAIL = 1e-300


class _Sum(NamedTuple):
    """The variance of a mean, in those of independent rows, and the lags that it adds up."""

    inflation: float
    lags: int
    surprise: float
    """The sum in its standard errors for independent rows."""


@dataclass(frozen=True, slots=True)
class Dependence:
    """How much less n neighbouring rows say than n independent ones.

    Attributes:
        inflation: the variance of a mean of the rows, as a multiple of that of independent rows; 1 for these.
        freedom: degrees of freedom of that multiple; infinite for independent rows, where nothing is estimated.
    """

    inflation: float = 1.0
    freedom: float = math.inf

    @classmethod
    def of(cls, influence: FloatArray) -> Dependence:
        """Measure the dependence of rows by what each of them does to a metric.

        Formula: ``(1 + 2 sum_k rho_k) / (1 - 2 M / n)`` with the autocorrelations rho at the lags k = 1 to M, of which
        the sum ends before the first pair of neighbouring lags that is not positive. The divisor makes up for the mean,
        which is estimated too. The relative variance of the sum, ``2 (2 M + 1) / n``, is that of a variance with
        ``n / (2 M + 1)`` degrees of freedom. A sum that independent rows give as well counts as none, and so does one
        that two quarters of the window lack: then the metric has changed within the window, which is no excuse.

        Args:
            influence: one number for each row, in order of time, see :mod:`app.statistics.intervals`.

        Returns:
            At least 1, with its degrees of freedom.

        Raises:
            Nothing.

        Reference:
            Geyer (1992), doi:10.1214/ss/1177011137; Madras and Sokal (1988), doi:10.1007/BF01022990.

        >>> Dependence.of(np.random.default_rng(0).normal(size=1000))
        Dependence(inflation=1.0, freedom=inf)
        >>> Dependence.of(np.repeat(np.random.default_rng(0).normal(size=200), 5)).inflation > 3
        True
        """
        if len(influence) < _MIN_ROWS:
            return cls()
        whole = _summed(influence)
        if whole.surprise <= _NOISE:
            return cls()
        quarters = sorted(_summed(part).surprise for part in np.array_split(influence, _PARTS))
        if sum(quarters[: _PARTS // 2]) <= _NOISE:
            return cls()
        return cls(whole.inflation, max(len(influence) / (2 * whole.lags + 1), 1.0))

    def ratio(self, confidence: float) -> float:
        """Give the factor on a variance: the inflation, with Student's tail for the normal one."""
        if math.isinf(self.freedom):
            return self.inflation
        tail = max((1 - confidence) / 2, _MIN_TAIL)
        return self.inflation * float(special.stdtrit(self.freedom, tail) / special.ndtri(tail)) ** 2


@dataclass(frozen=True, slots=True)
class Dependent:
    """Hold the interval of a metric whose rows depend on each other.

    >>> from app.statistics.intervals import Share
    >>> [round(bound, 2) for bound in Dependent(Share(80, 100), Dependence(4.0, 10.0)).bounds(0.95)]
    [0.59, 0.93]
    """

    interval: Interval
    dependence: Dependence

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval."""
        return self.interval.widened(self.dependence.ratio(confidence)).bounds(confidence)

    def widened(self, ratio: float) -> Dependent:
        """Give the same interval with this multiple of its variance."""
        return Dependent(self.interval.widened(ratio), self.dependence)


def dependent(interval: Interval, influence: FloatArray) -> Interval:
    """Widen the interval of a metric by the dependence of its rows, which are in order of time."""
    found = Dependence.of(influence)
    return interval if found.inflation == 1.0 else Dependent(interval, found)


def _summed(values: FloatArray) -> _Sum:
    """Add up the autocorrelations of some rows."""
    n = len(values)
    if float(np.ptp(values)) == 0.0:
        return _Sum(1.0, 1, 0.0)
    deviations = values - values.mean()
    length = fft.next_fast_len(2 * n, real=True)
    spectrum = fft.rfft(deviations, length)
    sums = fft.irfft(spectrum.real**2 + spectrum.imag**2, length)[:n]
    correlations = sums[1:] / sums[0]
    pairs = correlations[1 : 1 + (n - 2) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ended = np.flatnonzero(pairs <= 0)
    lags = min(1 + 2 * int(ended[0] if len(ended) else len(pairs)), max(n // 4, 1))
    excess = 2 * float(correlations[:lags].sum())
    return _Sum((1 + excess) / (1 - 2 * lags / n), lags, excess / (2 * math.sqrt(lags / n)))
