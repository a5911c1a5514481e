"""Distances of histograms and samples agree with SciPy, with closed forms, and with their own null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app import statistics
from app.statistics import RobustScale

RNG_SEEDS = range(20)
BINS = np.full(10, 0.1)


@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_homogeneity_is_the_careful_one_of_two(seed: int) -> None:
    """Without sparse bins the p-value is the larger one of SciPy's Pearson and G tests."""
    rng = np.random.default_rng(seed)
    table = np.stack([rng.multinomial(5000, BINS), rng.multinomial(800, BINS)])
    both = [
        stats.chi2_contingency(table, correction=False, lambda_=name).pvalue for name in ("pearson", "log-likelihood")
    ]

    assert max(both) == pytest.approx(statistics.homogeneity_p_value(*table))


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
    """Under the null PSI averages its noise floor, and the chi-square test rejects about one in a hundred."""
    rng = np.random.default_rng(bins)
    shares = np.full(bins, 1 / bins)
    pairs = list(zip(rng.multinomial(10_000, shares, 3000), rng.multinomial(1000, shares, 3000), strict=True))
    mean = np.mean([statistics.psi(a, b) for a, b in pairs])
    by_table = np.mean([statistics.homogeneity_p_value(a, b) <= 0.01 for a, b in pairs])

    assert mean == pytest.approx(statistics.psi_noise_floor(*pairs[0]), rel=0.06)
    assert 0.004 < by_table < 0.018


def test_null_of_sparse_counts() -> None:
    """Rare bins never make the homogeneity test bolder than its level, down to one in a thousand."""
    rng = np.random.default_rng(7)
    shares = np.array([0.001] * 10 + [0.99])
    a, b = rng.multinomial(10_000, shares, 5000), rng.multinomial(1000, shares, 5000)
    p_values = np.array([statistics.homogeneity_p_value(*pair) for pair in zip(a, b, strict=True)])

    assert np.mean(p_values <= 0.01) <= 0.01
    assert np.mean(p_values <= 0.001) <= 0.001


@pytest.mark.parametrize("bins", [3, 20])
def test_noise_floors_are_the_means_under_the_null(bins: int) -> None:
    """Without any change the distances average their noise floors."""
    rng = np.random.default_rng(bins)
    shares = rng.dirichlet(np.full(bins, 5.0))
    pairs = list(zip(rng.multinomial(10_000, shares, 1000), rng.multinomial(1000, shares, 1000), strict=True))
    of_js = np.mean([statistics.js_distance(a, b) for a, b in pairs])
    of_variation = np.mean([statistics.total_variation(a, b) for a, b in pairs])

    assert of_js == pytest.approx(np.mean([statistics.js_noise_floor(a, b) for a, b in pairs]), rel=0.15)
    assert of_variation == pytest.approx(
        np.mean([statistics.total_variation_noise_floor(a, b) for a, b in pairs]), rel=0.05
    )


def test_homogeneity_with_inflation() -> None:
    """Counts of twice the rows, each row twice, say what the rows said once."""
    a, b = np.array([400, 300, 300]), np.array([30, 40, 30])

    assert statistics.homogeneity_p_value(2 * a, 2 * b, 2.0) == pytest.approx(statistics.homogeneity_p_value(a, b))


WASSERSTEIN_SEEDS = range(20)


@pytest.mark.parametrize("seed", WASSERSTEIN_SEEDS)
@pytest.mark.parametrize("digits", [15, 1])
def test_wasserstein(seed: int, digits: int) -> None:
    """Clipped and scaled as documented, the Wasserstein distance is SciPy's to within a hundredth."""
    rng = np.random.default_rng(seed)
    reference, window = np.sort(rng.normal(size=5000).round(digits)), np.sort(rng.normal(0.3, 1.5, 777).round(digits))
    low, first, third, high = np.quantile(reference, (0.001, 0.25, 0.75, 0.999))
    expected = stats.wasserstein_distance(np.clip(reference, low, high), np.clip(window, low, high))

    assert expected * 1.349 / (third - first) == pytest.approx(RobustScale(reference).wasserstein(window), rel=0.01)


def test_noise_floor_is_the_mean_under_the_null() -> None:
    """Without any change the distance averages its noise floor, whatever the law."""
    rng = np.random.default_rng(4)
    areas, floors = [], []
    for _ in range(300):
        scale = RobustScale(np.sort(rng.lognormal(size=3000)))
        areas.append(scale.wasserstein(np.sort(rng.lognormal(size=300))))
        floors.append(scale.noise_floor(3000, 300))

    assert np.mean(areas) == pytest.approx(np.mean(floors), rel=0.07)


def test_inputs_stay_as_they_are() -> None:
    """The distance changes none of the arrays that it is given."""
    rng = np.random.default_rng(1)
    reference, window = np.sort(rng.normal(size=50)), np.sort(rng.normal(size=20))
    before = reference.copy(), window.copy()
    RobustScale(reference).wasserstein(window)

    assert np.array_equal(before[0], reference)
    assert np.array_equal(before[1], window)


@pytest.mark.parametrize(("usual", "most"), [(0.0, 1.0), (7.0, 1.0), (1e-12, 1.0)])
def test_wasserstein_has_a_unit_where_most_values_are_equal(usual: float, most: float) -> None:
    """Where the interquartile range is nothing, a distance is in standard deviations, and no astronomical number."""
    rng = np.random.default_rng(4)
    ours, theirs = (np.sort(np.where(rng.random(n) < 0.8, usual, rng.exponential(size=n))) for n in (5000, 1000))
    scale = RobustScale(ours)

    assert scale.wasserstein(theirs) < 3 * scale.noise_floor(5000, 1000) < most


def test_wasserstein_of_a_constant_is_in_its_own_size() -> None:
    """A constant that moves from 4 to 5 has moved by a quarter of itself; one that stays has not moved."""
    scale = RobustScale(np.full(100, 4.0))

    assert scale.wasserstein(np.full(10, 5.0)) == 0.25
    assert scale.wasserstein(np.full(10, 4.0)) == 0.0
