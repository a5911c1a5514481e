"""The statistics agree with SciPy, with closed forms, and with their own null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.monitoring import statistics
from app.monitoring.limits import alpha_per_look

RNG_SEEDS = range(20)
BINS = np.full(10, 0.1)


def samples(seed: int, digits: int = 15) -> tuple[statistics.FloatArray, statistics.FloatArray]:
    """Draw two sorted samples of different law and size."""
    rng = np.random.default_rng(seed)
    reference, window = rng.normal(size=int(rng.integers(1, 400))), rng.normal(0.3, 1.5, int(rng.integers(1, 400)))
    return np.sort(reference.round(digits)), np.sort(window.round(digits))


@pytest.mark.parametrize("seed", RNG_SEEDS)
@pytest.mark.parametrize("digits", [15, 1, 0])
def test_ks_statistic(seed: int, digits: int) -> None:
    """The KS distance is SciPy's, with ties and without."""
    reference, window = samples(seed, digits)

    assert stats.ks_2samp(reference, window).statistic == pytest.approx(statistics.ks_statistic(reference, window))


@pytest.mark.parametrize("seed", RNG_SEEDS)
@pytest.mark.parametrize("digits", [15, 1, 0])
def test_area_between_distributions(seed: int, digits: int) -> None:
    """Clipped and scaled as documented, the Wasserstein distance is SciPy's."""
    reference, window = samples(seed, digits)
    low, first, third, high = np.quantile(reference, (0.001, 0.25, 0.75, 0.999))
    expected = stats.wasserstein_distance(np.clip(reference, low, high), np.clip(window, low, high))

    assert expected * 1.349 / (third - first) == pytest.approx(statistics.wasserstein(reference, window))


@pytest.mark.parametrize("shift", [0.07, 0.09, 0.11])
def test_ks_p_value_in_the_tail(shift: float) -> None:
    """Down to 1e-6 the KS p-value is within a third of the exact two-sample one."""
    reference, window = np.arange(2000) / 2000, np.arange(997) / 997 + shift
    exact = stats.ks_2samp(reference, window, method="exact").pvalue
    distance = statistics.ks_statistic(reference, window)

    assert exact == pytest.approx(statistics.ks_p_value(distance, 2000, 997), rel=1 / 3)


@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_homogeneity_is_the_careful_one_of_two(seed: int) -> None:
    """Without sparse bins the p-value is the larger one of SciPy's Pearson and G tests."""
    rng = np.random.default_rng(seed)
    table = np.stack([rng.multinomial(5000, BINS), rng.multinomial(800, BINS)])
    both = [
        stats.chi2_contingency(table, correction=False, lambda_=name).pvalue for name in ("pearson", "log-likelihood")
    ]

    assert max(both) == pytest.approx(statistics.homogeneity_p_value(*table))


def test_share_p_value_is_fishers() -> None:
    """A share's p-value is twice the smaller one-sided p-value of SciPy's Fisher test."""
    table = np.array([[990, 10], [480, 20]])
    sides = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
    found = statistics.share_p_values(np.array([10]), 1000, np.array([20]), 500)

    assert 2 * min(sides) == pytest.approx(float(found[0]))


@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_benjamini_hochberg(seed: int) -> None:
    """Adjusted p-values are SciPy's, in the order given."""
    p_values = np.random.default_rng(seed).random(25) ** 3

    assert stats.false_discovery_control(p_values) == pytest.approx(statistics.benjamini_hochberg(p_values))


@pytest.mark.parametrize("successes", [0, 1, 45, 50])
def test_wilson(successes: int) -> None:
    """Wilson's interval is SciPy's, at the edges as well."""
    expected = stats.binomtest(successes, 50).proportion_ci(0.99, "wilson")

    assert (expected.low, expected.high) == pytest.approx(statistics.wilson(successes, 50, 0.99), abs=1e-12)


def test_js_distance() -> None:
    """The Jensen-Shannon distance is SciPy's in bits."""
    from scipy.spatial.distance import jensenshannon

    a, b = np.array([10, 0, 90]), np.array([30, 5, 65])

    assert jensenshannon(a, b, base=2) == pytest.approx(statistics.js_distance(a, b))


def test_psi_of_one_sigma() -> None:
    """The PSI of a one-sigma shift in fine bins is near its closed form, one."""
    edges = stats.norm.ppf(np.arange(1, 1000) / 1000)
    share = [np.diff(np.concatenate([[0.0], stats.norm.cdf(edges, centre), [1.0]])) for centre in (0.0, 1.0)]
    counts = [(1e9 * values).astype(np.int64) for values in share]

    assert statistics.psi(*counts) == pytest.approx(1.0, rel=0.02)


def test_psi_ignores_bins_that_nobody_uses() -> None:
    """A bin that is empty on both sides changes neither PSI nor its noise floor."""
    a, b = np.array([50, 50]), np.array([30, 70])
    wider = np.append(a, 0), np.append(b, 0)

    assert statistics.psi(a, b) == statistics.psi(*wider)
    assert statistics.psi_noise_floor(a, b) == statistics.psi_noise_floor(*wider)


@pytest.mark.parametrize("bins", [2, 10, 20])
def test_null_of_counts(bins: int) -> None:
    """Under the null PSI averages its noise floor, and both p-values reject about one in a hundred."""
    rng = np.random.default_rng(bins)
    shares = np.full(bins, 1 / bins)
    pairs = list(zip(rng.multinomial(10_000, shares, 3000), rng.multinomial(1000, shares, 3000), strict=True))
    mean = np.mean([statistics.psi(a, b) for a, b in pairs])
    by_psi = np.mean([statistics.psi_p_value(a, b) <= 0.01 for a, b in pairs])
    by_table = np.mean([statistics.homogeneity_p_value(a, b) <= 0.01 for a, b in pairs])

    assert mean == pytest.approx(statistics.psi_noise_floor(*pairs[0]), rel=0.06)
    assert 0.004 < by_psi < 0.018
    assert 0.004 < by_table < 0.018


def test_null_of_sparse_counts() -> None:
    """Rare bins never make the homogeneity test bolder than its level, down to one in a thousand."""
    rng = np.random.default_rng(7)
    shares = np.array([0.001] * 10 + [0.99])
    a, b = rng.multinomial(10_000, shares, 5000), rng.multinomial(1000, shares, 5000)
    p_values = np.array([statistics.homogeneity_p_value(*pair) for pair in zip(a, b, strict=True)])

    assert np.mean(p_values <= 0.01) <= 0.01
    assert np.mean(p_values <= 0.001) <= 0.001


def test_null_of_ks() -> None:
    """Under the null the KS test rejects about one in a hundred."""
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(800):
        reference, window = np.sort(rng.normal(size=5000)), np.sort(rng.normal(size=500))
        p_values.append(statistics.ks_p_value(statistics.ks_statistic(reference, window), 5000, 500))

    assert 0.002 < np.mean(np.array(p_values) <= 0.01) < 0.02


def test_inputs_stay_as_they_are() -> None:
    """No statistic changes the arrays that it is given."""
    reference, window = samples(1)
    before = reference.copy(), window.copy()
    statistics.wasserstein(reference, window)
    statistics.ks_statistic(reference, window)
    statistics.benjamini_hochberg(reference)

    assert np.array_equal(before[0], reference)
    assert np.array_equal(before[1], window)


def test_alpha_is_the_share_of_the_period() -> None:
    """A look may spend the part of the budget that its time is of the period, and never more than one in a hundred."""
    assert alpha_per_look(60, 30 * 86_400) == pytest.approx(60 / (30 * 86_400))
    assert alpha_per_look(1e9, 86_400) == 0.01
