"""Two-sample statistics on arrays: effect sizes, calibrated p-values, and their correction over many tests.

Pure functions of their arguments. Counts are non-negative integers per bin; samples are finite float64 arrays. Every
p-value is analytic or exact, since the verdict asks for tails near 1e-6 that resampling cannot resolve.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

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
    p, q = _shares(reference, window)
    return float(np.sum((q - p) * np.log(q / p)))


def psi_noise_floor(reference: IntArray, window: IntArray) -> float:
    """Expect this PSI when nothing has changed: ``(k - 1) (1/n + 1/m)`` over the k bins that are not empty in both.

    Under the null PSI is about (1/n + 1/m) times chi-square with k - 1 degrees of freedom: Yurdakul (2018),
    "Statistical properties of population stability index", https://scholarworks.wmich.edu/dissertations/3208.

    >>> round(psi_noise_floor(np.full(10, 1000), np.full(10, 100)), 6)
    0.0099
    """
    bins = int(np.count_nonzero(reference + window))
    return max(bins - 1, 0) * (1 / int(reference.sum()) + 1 / int(window.sum()))


def psi_p_value(reference: IntArray, window: IntArray) -> float:
    """Give the probability of a PSI this large under the null of :func:`psi_noise_floor`; too bold in sparse bins.

    >>> round(psi_p_value(np.full(10, 1000), np.full(10, 100)), 6)
    1.0
    """
    bins = int(np.count_nonzero(reference + window))
    unit = 1 / int(reference.sum()) + 1 / int(window.sum())
    return float(special.chdtrc(bins - 1, psi(reference, window) / unit)) if bins > 1 else 1.0


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


def ks_statistic(reference: FloatArray, window: FloatArray) -> float:
    """Largest distance of two empirical distribution functions; both samples sorted ascending and not empty.

    Only the window's points are visited, from both sides of each step, so the cost is m log n.

    >>> ks_statistic(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0]))
    0.5
    """
    n, m = len(reference), len(window)
    above = np.searchsorted(window, window, "right") / m - np.searchsorted(reference, window, "right") / n
    below = np.searchsorted(reference, window, "left") / n - np.searchsorted(window, window, "left") / m
    return float(max(above.max(), below.max()))


def ks_p_value(distance: float, n: int, m: int) -> float:
    """Two-sided p-value of a two-sample KS distance between n and m values; careful (too large) with ties.

    The one-sample law of Simard and L'Ecuyer (2011), doi:10.18637/jss.v039.i11, at the effective size n m / (n + m).

    >>> f"{ks_p_value(0.1, 10_000, 1_000):.2e}"
    '2.30e-08'
    """
    return float(stats.kstwo.sf(distance, max(round(n * m / (n + m)), 1)))


def wasserstein(reference: FloatArray, window: FloatArray) -> float:
    """Area between two empirical distribution functions, in robust standard deviations of the reference.

    Both samples sorted ascending and not empty. Values are clipped to the reference's 0.1 and 99.9 % quantiles first,
    so that one absurd value weighs no more than the tail does. Vallender (1974), doi:10.1137/1118101.

    >>> round(wasserstein(np.arange(1001.0), np.arange(1001.0) + 100), 2)
    0.26
    """
    low, first, centre, third, high = np.quantile(reference, (0.001, 0.25, 0.5, 0.75, 0.999))
    scale = max((third - first) / 1.349, np.finfo(np.float64).eps * max(1.0, abs(centre)))
    ours, theirs = ((np.clip(sample, low, high) - centre) / scale for sample in (reference, window))
    return _area_between(ours, theirs)


def homogeneity_p_value(reference: IntArray, window: IntArray) -> float:
    """Test whether both histograms come from one law: the larger p-value of Pearson's chi-square and the G test.

    Bins with an expected count below five are pooled. Far out in the tail Pearson's statistic is too bold for a bin
    that fills and G for a bin that empties; asking both keeps the level near 1e-6. Cressie and Read (1984),
    doi:10.1111/j.2517-6161.1984.tb01318.x.

    >>> f"{homogeneity_p_value(np.array([5000, 5000]), np.array([450, 550])):.2e}"
    '2.57e-03'
    """
    table = _pool_sparse(np.stack([reference, window]).astype(np.float64))
    if table.shape[1] < 2:  # noqa: PLR2004 - one bin cannot differ
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    pearson = float(np.sum((table - expected) ** 2 / expected))
    deviance = 2 * float(np.sum(special.rel_entr(table, expected)))
    return float(special.chdtrc(table.shape[1] - 1, min(pearson, deviance)))


def share_p_values(reference: IntArray, n: int, window: IntArray, m: int) -> FloatArray:
    """Exact two-sided p-values of "these shares are equal", for each pair of counts out of n and m.

    Twice the smaller tail of the hypergeometric distribution: Fisher (1935), doi:10.2307/2342435. Valid at any count.

    >>> share_p_values(np.array([100, 0]), 10_000, np.array([10, 3]), 1_000).round(6)
    array([1.      , 0.001499])
    """
    totals = reference + window
    lower = stats.hypergeom.cdf(window, n + m, totals, m)
    upper = stats.hypergeom.sf(window - 1, n + m, totals, m)
    return np.asarray(np.minimum(2 * np.minimum(lower, upper), 1.0), dtype=np.float64)


def smallest_p_value(p_values: FloatArray) -> float:
    """Bonferroni's p-value of "none of these nulls is false": the smallest one times their number, at most 1.

    >>> smallest_p_value(np.array([0.01, 0.5]))
    0.02
    """
    return min(float(np.min(p_values)) * len(p_values), 1.0) if len(p_values) else 1.0


def benjamini_hochberg(p_values: FloatArray) -> FloatArray:
    """Adjust p-values to control the false discovery rate, in the order given.

    ``min over j >= i of p_(j) n / j``: Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x. When no
    feature has drifted, the chance of any adjusted value at or below alpha is at most alpha.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(4)
    array([0.03, 0.04, 0.04])
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * count / np.arange(1, count + 1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(adjusted, 1.0)


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a share from independent trials (at least one).

    Wilson (1927), doi:10.1080/01621459.1927.10502953. Never leaves [0, 1] and never collapses at 0 or 1.

    >>> [round(bound, 4) for bound in wilson(90, 100)]
    [0.8256, 0.9448]
    """
    z = normal_quantile(confidence)
    share, spread = successes / trials, z**2 / trials
    centre = (share + spread / 2) / (1 + spread)
    half = float(np.sqrt(share * (1 - share) * spread + spread**2 / 4)) / (1 + spread)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def normal_quantile(confidence: float) -> float:
    """Half-width, in standard errors, of a two-sided normal interval.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    return -float(special.ndtri((1 - confidence) / 2))


def _shares(reference: IntArray, window: IntArray) -> tuple[FloatArray, FloatArray]:
    used = (reference + window) > 0
    a, b, bins = reference[used], window[used], int(used.sum())
    return (a + 0.5) / (a.sum() + bins / 2), (b + 0.5) / (b.sum() + bins / 2)


def _pool_sparse(table: FloatArray) -> FloatArray:
    """Add up the columns whose expected count is below five, together with the smallest other one if need be."""
    sizes = table.sum(axis=1)
    expected = table.sum(axis=0) * sizes.min() / sizes.sum()
    order = np.argsort(expected, kind="stable")
    table, running = table[:, order], np.cumsum(expected[order])
    pooled = int(np.sum(expected < _SPARSE))
    if 0 < pooled < len(running) and running[pooled - 1] < _SPARSE:
        pooled += 1
    return np.column_stack([table[:, :pooled].sum(axis=1), table[:, pooled:]]) if pooled else table


def _area_between(reference: FloatArray, window: FloatArray) -> float:
    """Integrate |F_n - F_m|: between two window points F_m is constant, and F_n crosses it at one quantile at most."""
    n, m = len(reference), len(window)
    sums = np.concatenate([[0.0], np.cumsum(reference)])

    def integral(x: FloatArray) -> FloatArray:
        """Integral of F_n from minus infinity to x."""
        below = np.searchsorted(reference, x, "right")
        return np.asarray((below * x - sums[below]) / n, dtype=np.float64)

    ends = np.concatenate([[min(reference[0], window[0])], window, [max(reference[-1], window[-1])]])
    left, right, level = ends[:-1], ends[1:], np.arange(m + 1) / m
    quantiles = reference[np.minimum(np.ceil(level * n).astype(np.int64), n) - 1]
    cross = np.clip(np.where(level > 0, quantiles, left), left, right)
    under = level * (cross - left) - (integral(cross) - integral(left))
    over = (integral(right) - integral(cross)) - level * (right - cross)
    return float(np.sum(under + over))
