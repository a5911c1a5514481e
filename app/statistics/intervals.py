"""Confidence intervals of metrics, and standard errors by influence functions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

from app.statistics import FloatArray, middle_ranks


def standard_error(influence: FloatArray) -> float:
    """Give the standard error of the metric that has these influences.

    >>> round(standard_error(np.array([1.0, -1.0, 1.0, -1.0])), 4)  # that of a mean is s / sqrt(n)
    0.5774
    """
    count = len(influence)
    return float(np.sqrt(np.sum(influence**2) / (count * max(count - 1, 1))))


def of_mean(values: FloatArray) -> FloatArray:
    """Influence on a mean."""
    return np.asarray(values - values.mean(), dtype=np.float64)


def of_ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Influence on the ratio of two means; zero where it is undefined."""
    total = float(denominator.mean())
    if total == 0:
        return np.zeros(len(numerator))
    return np.asarray((numerator - numerator.mean() / total * denominator) / total, dtype=np.float64)


def of_macro_ratio(numerators: FloatArray, denominators: FloatArray) -> FloatArray:
    """Compute influences on the mean of several ratios.

    There is one ratio per column of two arrays of shape (n, classes).
    """
    pairs = zip(numerators.T, denominators.T, strict=True)
    return mean_of(of_ratio(above, below) for above, below in pairs)


def mean_of(influences: Iterable[FloatArray]) -> FloatArray:
    """Influence on the mean of several metrics."""
    return np.asarray(np.mean(list(influences), axis=0), dtype=np.float64)


def of_roc_auc(actual: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """Influence on the area under the ROC curve: DeLong et al. (1988), doi:10.2307/2531595."""
    influence = np.zeros(len(scores))
    positives, negatives = int(actual.sum()), int((~actual).sum())
    if not positives or not negatives:
        return influence
    ranks = middle_ranks(scores)
    for side, others, sign in ((actual, negatives, 1), (~actual, positives, -1)):
        placed = sign * (ranks[side] - middle_ranks(scores[side])) / others
        influence[side] = of_mean(placed) * len(scores) / int(side.sum())
    return influence


def of_average_precision(actual: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """Compute influences on average precision, ``E[Y P(S)] / E[Y]``.

    P(s) is the precision at and above the score s.

    A row moves it as one of the positives, and through the precision at every positive's score at or below its own.
    """
    count, prevalence = len(scores), float(actual.mean())
    if prevalence in (0.0, 1.0):
        return np.zeros(count)
    values, group = np.unique(scores, return_inverse=True)
    rows = np.bincount(group, minlength=len(values)).astype(np.float64)
    hits = np.bincount(group, weights=actual.astype(np.float64), minlength=len(values))
    above, hits_above = (np.cumsum(each[::-1])[::-1] for each in (rows, hits))
    precision = np.asarray(hits_above / above, dtype=np.float64)
    own = np.cumsum(hits / above)[group]
    weight = actual.astype(np.float64)
    through = weight * own - np.cumsum(hits * precision / above)[group]
    return np.asarray(of_ratio(weight * precision[group], weight) + through / prevalence, dtype=np.float64)


class Interval(Protocol):
    """Give the interval of a metric."""

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval."""

    def widened(self, ratio: float) -> Interval:
        """Give the same interval with this multiple of its variance."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of independent trials: Jeffreys' interval.

    The quantiles of Beta(hits + 1/2, misses + 1/2), and the end of the scale where all, or none, were hits. Unlike
    Wilson's, each side keeps its level: Brown, Cai and DasGupta (2001), doi:10.1214/ss/1009213286; Cai (2005),
    doi:10.1016/j.jspi.2004.01.005.

    >>> [round(bound, 4) for bound in Share(90, 100).bounds(0.95)]
    [0.8299, 0.9474]
    """

    hits: float
    trials: float

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval; without trials, all that is possible."""
        tail, misses = (1 - confidence) / 2, self.trials - self.hits
        low = float(special.betaincinv(self.hits + 0.5, misses + 0.5, tail)) if self.hits else 0.0
        high = 1 - float(special.betaincinv(misses + 0.5, self.hits + 0.5, tail)) if misses else 1.0
        return low, high

    def widened(self, ratio: float) -> Share:
        """Give the same interval with this multiple of its variance."""
        return Share(self.hits / ratio, self.trials / ratio)


@dataclass(frozen=True, slots=True)
class MeanShare:
    """Hold a mean of shares of different rows, such as macro recall.

    A share without trials counts as 0.

    Each side is the root of the summed squares of the shares' own sides: Zou and Donner (2008), doi:10.1002/sim.3095.

    >>> [round(bound, 4) for bound in MeanShare((Share(90, 100), Share(5, 10))).bounds(0.95)]
    [0.5574, 0.8403]
    """

    shares: tuple[Share, ...]

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval."""
        values = [share.hits / share.trials if share.trials else 0.0 for share in self.shares]
        sides = [share.bounds(confidence) for share in self.shares]
        less = math.hypot(*(value - low for value, (low, _) in zip(values, sides, strict=True)))
        more = math.hypot(*(high - value for value, (_, high) in zip(values, sides, strict=True)))
        count, mean = len(values), sum(values) / len(values)
        return max(mean - less / count, 0.0), min(mean + more / count, 1.0)

    def widened(self, ratio: float) -> MeanShare:
        """Give the same interval with this multiple of its variance."""
        return MeanShare(tuple(share.widened(ratio) for share in self.shares))


@dataclass(frozen=True, slots=True)
class Mean:
    """Hold a mean of n rows, which may be skewed.

    The interval is Student's, with the rows' skewness g transformed away.

    The pivot is ``T + g T^2 / (3 sqrt n) + g^2 T^3 / (27 n) + g / (6 sqrt n)``, which is monotone, and so inverted in
    closed form: Hall (1992), doi:10.1111/j.2517-6161.1992.tb01876.x. Bounds below ``floor`` are cut.

    >>> [round(bound, 3) for bound in Mean.of(np.array([1.0, 2.0, 3.0, 10.0] * 25)).bounds(0.95)]
    [3.343, 4.766]
    """

    value: float
    error: float
    skewness: float
    rows: int
    floor: float = -math.inf

    @classmethod
    def of(cls, values: FloatArray, floor: float = -math.inf) -> Mean:
        """Take the mean of these rows, of which there is at least one."""
        mean = float(values.mean())
        deviations = values - mean
        spread = float(np.sqrt(np.mean(deviations**2)))
        skewness = float(np.mean((deviations / spread) ** 3)) if spread else 0.0
        return cls(mean, standard_error(deviations), skewness, len(values), floor)

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval; of a single row, all that is possible."""
        if self.rows == 1:
            return self.floor, math.inf
        quantile = -float(special.stdtrit(self.rows - 1, (1 - confidence) / 2))
        low, high = (self.value - self.error * self._pivot(side) for side in (quantile, -quantile))
        return max(low, self.floor), high

    def widened(self, ratio: float) -> Mean:
        """Give the same interval with this multiple of its variance."""
        return replace(self, error=self.error * math.sqrt(ratio))

    def _pivot(self, quantile: float) -> float:
        """Find the studentised mean at which the transformed one is this quantile."""
        slope = self.skewness / math.sqrt(self.rows)
        if abs(slope) < 1e-9:  # noqa: PLR2004 - the limit of the formula, which divides by it
            return quantile
        return 3 / slope * (math.cbrt(1 + slope * (quantile - slope / 6)) - 1)


@dataclass(frozen=True, slots=True)
class RootMean:
    """The root of a mean, such as RMSE: its interval is the mean's, under the root."""

    mean: Mean

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval."""
        low, high = self.mean.bounds(confidence)
        return math.sqrt(max(low, 0.0)), math.sqrt(high)

    def widened(self, ratio: float) -> RootMean:
        """Give the same interval with this multiple of its variance."""
        return RootMean(self.mean.widened(ratio))


@dataclass(frozen=True, slots=True)
class Bounded:
    """Hold a metric between 0 and 1 with a standard error.

    The interval is normal on the logit scale, so it stays inside.

    At 0 or 1 itself there is no spread to see: the interval is then that of a share of ``rows``, the rows of the rarest
    kind that the metric speaks of. Agresti (2002), "Categorical Data Analysis", section 3.1.

    >>> [round(bound, 3) for bound in Bounded(0.9, 0.02, 200).bounds(0.95)]
    [0.853, 0.933]
    """

    value: float
    error: float
    rows: float

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval."""
        if not 0 < self.value < 1 or not self.error:
            return Share(min(round(self.value * self.rows), self.rows), self.rows).bounds(confidence)
        centre = float(special.logit(self.value))
        half = -float(special.ndtri((1 - confidence) / 2)) * self.error / (self.value * (1 - self.value))
        return float(special.expit(centre - half)), float(special.expit(centre + half))

    def widened(self, ratio: float) -> Bounded:
        """Give the same interval with this multiple of its variance."""
        return Bounded(self.value, self.error * math.sqrt(ratio), self.rows / ratio)


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
    """The dependence of neighbouring rows: n of them say less than n independent ones.

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
            influence: one number for each row, in order of time, see the functions above.

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


@dataclass(frozen=True, slots=True)
class Moved:
    """Hold an interval that is moved by a known error, within what the metric can be.

    >>> [round(bound, 4) for bound in Moved(Share(90, 100), -0.1, 0.0, 1.0).bounds(0.95)]
    [0.7299, 0.8474]
    """

    interval: Interval
    by: float
    floor: float
    ceiling: float

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval."""
        low, high = (min(max(bound + self.by, self.floor), self.ceiling) for bound in self.interval.bounds(confidence))
        return low, high

    def widened(self, ratio: float) -> Moved:
        """Give the same interval with this multiple of its variance."""
        return replace(self, interval=self.interval.widened(ratio))


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
