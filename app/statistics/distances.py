"""Distances between two samples or two histograms of one column, and the table of them.

Each has the value to expect of it when nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import special

from app.statistics.order import FloatArray, IntArray, Pair, cramer_von_mises, ks_noise_floor, ks_statistic

_SPARSE = 5.0
"""Expected count below which Pearson's approximation no longer holds (Cochran 1954, doi:10.2307/3001666)."""


def psi(reference: IntArray, window: IntArray) -> float:
    """Measure the population stability index of two histograms over the same bins.

    ``sum (q - p) ln(q / p)`` with p = (a + 1/2) / (n + k/2) and q alike, over the k bins that are not empty in both.
    The half count is Jeffreys' prior: an empty bin stays finite without ruling the result. The index is the symmetric
    divergence of Jeffreys (1946), doi:10.1098/rspa.1946.0056.

    >>> psi(np.array([50, 50]), np.array([50, 50]))
    0.0
    >>> round(psi(np.array([500, 500]), np.array([300, 700])), 4)
    0.1691
    """
    used = (reference + window) > 0
    a, b, bins = reference[used], window[used], int(used.sum())
    p, q = (a + 0.5) / (a.sum() + bins / 2), (b + 0.5) / (b.sum() + bins / 2)
    return float(np.sum((q - p) * np.log(q / p)))


def psi_noise_floor(reference: IntArray, window: IntArray) -> float:
    """Give the PSI to expect when nothing has changed.

    It is ``(k - 1) (1/n + 1/m)`` over the k bins that are not empty in both.

    Under the null PSI is about (1/n + 1/m) times chi-square with k - 1 degrees of freedom: Yurdakul (2018),
    "Statistical properties of population stability index", https://scholarworks.wmich.edu/dissertations/3208.

    >>> round(psi_noise_floor(np.full(10, 1000), np.full(10, 100)), 6)
    0.0099
    """
    bins = int(np.count_nonzero(reference + window))
    return max(bins - 1, 0) * _noise(reference, window)


def js_distance(reference: IntArray, window: IntArray) -> float:
    """Jensen-Shannon distance of two histograms, from 0 (equal) to 1 (disjoint).

    Square root of ``H((p + q) / 2) - (H(p) + H(q)) / 2`` in bits, a metric: Endres and Schindelin (2003),
    doi:10.1109/TIT.2003.813506. Takes plain shares, since no logarithm of zero arises.

    >>> js_distance(np.array([10, 0]), np.array([0, 10]))
    1.0
    """
    p, q = reference / reference.sum(), window / window.sum()
    middle = (p + q) / 2
    divergence = float(np.sum(special.rel_entr(p, middle) + special.rel_entr(q, middle))) / (2 * np.log(2))
    return float(np.sqrt(max(divergence, 0.0)))


def js_noise_floor(reference: IntArray, window: IntArray) -> float:
    """Give about the Jensen-Shannon distance to expect when nothing has changed.

    It is ``sqrt((k - 1) (1/n + 1/m) / (8 ln 2))``.

    Near equality the divergence is an eighth of PSI, in nats: Lin (1991), doi:10.1109/18.61115.

    >>> round(js_noise_floor(np.full(10, 1000), np.full(10, 100)), 4)
    0.0423
    """
    return float(np.sqrt(psi_noise_floor(reference, window) / (8 * np.log(2))))


def total_variation(reference: IntArray, window: IntArray) -> float:
    """Compute the total variation distance: ``sum
    p - q
     / 2``.

    It is the share of rows that would have to change bins to make both alike.

    >>> round(total_variation(np.array([50, 50]), np.array([30, 70])), 6)
    0.2
    """
    return float(np.abs(reference / reference.sum() - window / window.sum()).sum()) / 2


def total_variation_noise_floor(reference: IntArray, window: IntArray) -> float:
    """Give the total variation to expect when nothing has changed.

    It is half the mean size of each bin's normal error.

    ``sum sqrt(2/pi p (1 - p) (1/n + 1/m)) / 2`` with p from both samples together.

    >>> round(total_variation_noise_floor(np.full(10, 1000), np.full(10, 100)), 4)
    0.0397
    """
    p = (reference + window) / (reference.sum() + window.sum())
    return float(np.sqrt(2 / np.pi * p * (1 - p) * _noise(reference, window)).sum()) / 2


def homogeneity_p_value(reference: IntArray, window: IntArray, inflation: float = 1.0) -> float:
    """Test whether both histograms come from one law.

    The p-value is the larger one of Pearson's chi-square and the G test.

    Bins with an expected count below five are pooled. Far out in the tail Pearson's statistic is too bold for a bin
    that fills and G for a bin that empties; asking both keeps the level near 1e-6. Cressie and Read (1984),
    doi:10.1111/j.2517-6161.1984.tb01318.x.

    Args:
        inflation: how many times the counts' variance is larger than that of independent rows; the statistic is
            divided by it: Rao and Scott (1981), doi:10.1080/01621459.1981.10477633.

    >>> f"{homogeneity_p_value(np.array([5000, 5000]), np.array([450, 550])):.2e}"
    '2.57e-03'
    """
    table = _pool_sparse(np.stack([reference, window]).astype(np.float64))
    if table.shape[1] < 2:  # noqa: PLR2004 - one bin cannot differ
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    pearson = float(np.sum((table - expected) ** 2 / expected))
    deviance = 2 * float(np.sum(special.rel_entr(table, expected)))
    return float(special.chdtrc(table.shape[1] - 1, min(pearson, deviance) / inflation))


def _noise(reference: IntArray, window: IntArray) -> float:
    return 1 / int(reference.sum()) + 1 / int(window.sum())


def _pool_sparse(table: FloatArray) -> FloatArray:
    """Merge the columns whose expected count is below five.

    The smallest other column joins them if need be.
    """
    sizes = table.sum(axis=1)
    expected = table.sum(axis=0) * sizes.min() / sizes.sum()
    order = np.argsort(expected, kind="stable")
    table, running = table[:, order], np.cumsum(expected[order])
    pooled = int(np.sum(expected < _SPARSE))
    if 0 < pooled < len(running) and running[pooled - 1] < _SPARSE:
        pooled += 1
    return np.column_stack([table[:, :pooled].sum(axis=1), table[:, pooled:]]) if pooled else table


_LEVELS = 4096


class RobustScale:
    """Hold a reference's quantiles, trimmed and in robust units.

    All its Wasserstein distances share them.

    Args:
        reference: sorted ascending, finite and not empty.
    """

    def __init__(self, reference: FloatArray) -> None:
        quantiles = _quantiles(reference)
        self._low, first, self._centre, third, self._high = np.quantile(quantiles, (0.001, 0.25, 0.5, 0.75, 0.999))
        if self._low == self._high:  # a constant has no tails to clip to
            self._low, self._high = -np.inf, np.inf
        self._unit = _spread(quantiles, (third - first) / 1.349)
        self._reference = self._standard(quantiles)
        share = np.arange(1, _LEVELS) / _LEVELS
        self._roughness = float(np.sqrt(share * (1 - share)) @ np.diff(self._reference))

    def wasserstein(self, window: FloatArray) -> float:
        """Compute the mean distance of the quantiles of two samples.

        The unit is the robust standard deviation of the reference.

        At 4,096 levels; the window is sorted ascending and not empty. Values are clipped to the reference's 0.1 and
        99.9 % quantiles first, so that one absurd value weighs no more than the tail does, and divided by the
        interquartile range over 1.349; where half of the values are equal, by the standard deviation, or by the range.
        On a line this is the area between the distribution functions: Vallender (1974), doi:10.1137/1118101.

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


def _spread(quantiles: FloatArray, robust: float) -> float:
    """Give the unit of a distance, which is never 0.

    It is the robust deviation, else the standard one, else the range, else the size of the values. Half of the values
    are equal in many columns (zeros, a default): their interquartile range is no unit.

    >>> _spread(np.array([0.0, 0.0, 0.0, 4.0]), 0.0).__round__(3), _spread(np.array([5.0, 5.0]), 0.0)
    (1.732, 5.0)
    """
    centre = float(np.abs(quantiles).max())
    least = 2.0**-23 * centre
    for unit in (robust, float(quantiles.std()), float(np.ptp(quantiles))):
        if unit > least:
            return unit
    return centre or 1.0


def _quantiles(ordered: FloatArray) -> FloatArray:
    """Values at the middles of as many equal shares of a sorted sample as there are levels."""
    return ordered[(2 * np.arange(_LEVELS) + 1) * len(ordered) // (2 * _LEVELS)]


class Samples(NamedTuple):
    """The two samples of one column.

    Attributes:
        reference: rows of the reference per bin.
        window: rows of the window in the same bins.
        pair: the sorted values of both sides; None for categories, and where one side has no value.
        scale: the robust scale of the reference's values; None without ``pair``.
    """

    reference: IntArray
    window: IntArray
    pair: Pair | None = None
    scale: RobustScale | None = None


class HistogramDistance(NamedTuple):
    """A distance of two histograms over the same bins.

    Attributes:
        measure: gives it from the counts of reference and window.
        noise_floor: gives what to expect of it when nothing has changed, for independent rows.
        is_squared: whether it grows with the square of a difference, as a variance does.
    """

    measure: Callable[[IntArray, IntArray], float]
    noise_floor: Callable[[IntArray, IntArray], float]
    is_squared: bool = False


class ValueDistance(NamedTuple):
    """A distance of two samples of ordered values.

    ``noise_floor`` is None where none is reported.
    """

    measure: Callable[[Pair, RobustScale], float]
    noise_floor: Callable[[Pair, RobustScale], float] | None = None


def _ks(pair: Pair, scale: RobustScale) -> float:  # noqa: ARG001 - it has no unit
    return ks_statistic(pair)


def _ks_floor(pair: Pair, scale: RobustScale) -> float:  # noqa: ARG001 - as above
    return ks_noise_floor(pair.n, pair.m)


def _wasserstein(pair: Pair, scale: RobustScale) -> float:
    return scale.wasserstein(pair.window)


def _wasserstein_floor(pair: Pair, scale: RobustScale) -> float:
    return scale.noise_floor(pair.n, pair.m)


def _cramer_von_mises(pair: Pair, scale: RobustScale) -> float:  # noqa: ARG001 - it has no unit
    return float(cramer_von_mises(pair.ranks, pair.n))


OF_HISTOGRAMS: Mapping[str, HistogramDistance] = {
    "psi": HistogramDistance(psi, psi_noise_floor, is_squared=True),
    "js_distance": HistogramDistance(js_distance, js_noise_floor),
    "total_variation": HistogramDistance(total_variation, total_variation_noise_floor),
}
OF_VALUES: Mapping[str, ValueDistance] = {
    "ks_statistic": ValueDistance(_ks, _ks_floor),
    "wasserstein": ValueDistance(_wasserstein, _wasserstein_floor),
    "cramer_von_mises": ValueDistance(_cramer_von_mises),
}


def measure(name: str, samples: Samples) -> float | None:
    """Measure one distance between two samples.

    Args:
        name: a key of :data:`OF_HISTOGRAMS` or :data:`OF_VALUES`.
        samples: both sides of the column.

    Returns:
        The distance; None where it needs ordered values and there are none.

    Raises:
        KeyError: no distance has this name.

    Example:
        >>> measure("psi", Samples(np.array([500, 500]), np.array([500, 500])))
        0.0
    """
    if name in OF_HISTOGRAMS:
        return OF_HISTOGRAMS[name].measure(samples.reference, samples.window)
    distance = OF_VALUES[name]
    if samples.pair is None or samples.scale is None:
        return None
    return distance.measure(samples.pair, samples.scale)


def noise_floor(name: str, samples: Samples, inflation: float = 1.0) -> float | None:
    """Expect this value of a distance when nothing has changed.

    Formula:
        The floor for independent rows times ``inflation`` for a squared distance, else times its root.

    Args:
        name: a key of :data:`OF_HISTOGRAMS` or :data:`OF_VALUES`.
        samples: both sides of the column.
        inflation: how many times the variance is larger than that of independent rows.

    Returns:
        The floor, in the unit of the distance; None where the distance has none here.

    Raises:
        KeyError: no distance has this name.

    Example:
        >>> samples = Samples(np.full(10, 1000), np.full(10, 100))
        >>> round(noise_floor("psi", samples), 4), round(noise_floor("psi", samples, 2.0), 4)
        (0.0099, 0.0198)
    """
    wider = float(np.sqrt(inflation))
    if name in OF_HISTOGRAMS:
        histogram = OF_HISTOGRAMS[name]
        expected = histogram.noise_floor(samples.reference, samples.window)
        return expected * (inflation if histogram.is_squared else wider)
    floor = OF_VALUES[name].noise_floor
    if floor is None or samples.pair is None or samples.scale is None:
        return None
    return floor(samples.pair, samples.scale) * wider
