"""Tests by order: exact statistics, and p-values that hold far out in the tail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from app import statistics
from app.statistics import FloatArray, IntArray, Pair
from app.statistics.order import anderson_darling_tail, rank_auc

SIZES = [(1, 1), (2, 1), (40, 7), (7, 40), (300, 100)]


def by_definition(reference: FloatArray, window: FloatArray) -> float:
    """Sum over the whole pooled order, one value at a time."""
    n, m = len(reference), len(window)
    order = np.argsort(np.concatenate([reference, window]), kind="stable")
    of_window: FloatArray = np.cumsum(np.where(order >= n, 1.0, 0.0))[:-1]
    i = np.arange(1.0, n + m)
    terms = (m * i - of_window * (n + m)) ** 2 / (i * (n + m - i))
    return float(terms.sum()) / (n * m)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_anderson_darling_is_its_definition(n: int, m: int) -> None:
    """Computed from the window's values alone, the statistic is the sum over all values."""
    rng = np.random.default_rng(n)
    reference, window = np.sort(rng.normal(size=n)), np.sort(rng.normal(0.4, 2.0, m))

    assert by_definition(reference, window) == pytest.approx(
        float(statistics.anderson_darling(Pair(reference, window).ranks, n))
    )


def test_ties_are_careful() -> None:
    """With ties the statistic is no larger than what their random orders give on average, and not much smaller."""
    rng = np.random.default_rng(2)
    reference, window = np.sort(rng.poisson(9.0, 400)).astype(float), np.sort(rng.poisson(10.0, 200)).astype(float)
    broken = [
        by_definition(np.sort(reference + 1e-6 * rng.random(400)), np.sort(window + 1e-6 * rng.random(200)))
        for _ in range(300)
    ]
    pair = Pair(reference, window)

    assert 0.95 < float(statistics.anderson_darling(pair.ranks, pair.n)) / np.mean(broken) <= 1.0


@pytest.mark.parametrize("digits", [15, 1])
def test_mood_is_scipys(digits: int) -> None:
    """Mood's statistic is SciPy's, with ties to within a fiftieth."""
    rng = np.random.default_rng(5)
    reference, window = rng.normal(size=200).round(digits), rng.normal(0.0, 1.2, 80).round(digits)
    pair = Pair(np.sort(reference), np.sort(window))
    found = float(statistics.mood_z(pair.ranks, pair.n))

    assert found == pytest.approx(stats.mood(window, reference).statistic, rel=0.02 if digits == 1 else 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_cramer_von_mises(seed: int) -> None:
    """The Cramér-von Mises distance is SciPy's."""
    rng = np.random.default_rng(seed)
    reference, window = np.sort(rng.normal(size=300)), np.sort(rng.normal(0.1, 1.0, int(rng.integers(50, 400))))
    expected = stats.cramervonmises_2samp(reference, window, method="asymptotic")
    found = statistics.cramer_von_mises(Pair(reference, window).ranks, len(reference))

    assert expected.statistic == pytest.approx(float(found))


def permuted_ranks(n: int, m: int, looks: int, seed: int) -> IntArray:
    """Draw the window's ranks when each subset of them is as likely as another, shape (looks, m)."""
    order = np.random.default_rng(seed).random((looks, n + m)).argsort(axis=1)
    return np.sort(order[:, :m], axis=1) + 1


@pytest.mark.parametrize(("n", "m"), [(1000, 100), (100, 100)])
def test_null_of_order(n: int, m: int) -> None:
    """When nothing has changed both tests reject as often as their level says."""
    ranks = permuted_ranks(n, m, looks=6000, seed=3)
    p_values = (
        statistics.anderson_darling_p_value(statistics.anderson_darling(ranks, n)),
        statistics.mood_p_value(statistics.mood_z(ranks, n), n, m),
    )
    for found in p_values:
        for level, slack in ((0.1, 0.15), (0.01, 0.4)):
            assert np.mean(found <= level) == pytest.approx(level, rel=slack)


def test_inflation_divides_the_variance() -> None:
    """Four times the variance: an Anderson-Darling distance counts a quarter, and Mood's standard errors double."""
    distance, many = np.array(8.0), 10**7

    assert statistics.anderson_darling_p_value(distance, 4.0) == statistics.anderson_darling_p_value(distance / 4)
    assert float(statistics.mood_p_value(np.array(8.0), many, many, 4.0)) == pytest.approx(
        float(statistics.mood_p_value(np.array(4.0), many, many))
    )


def test_skewness_matters_in_the_tail() -> None:
    """With a small window a wider spread is less surprising than the normal law says, and a narrower one more."""
    normal = 2 * float(stats.norm.sf(5.0))
    wider, narrower = statistics.mood_p_value(np.array([5.0, -5.0]), 10_000, 100)

    assert wider > 1.5 * normal
    assert narrower < normal / 1.5


def test_tails_go_on() -> None:
    """P-values fall strictly, far beyond what any simulation resolves, from one when nothing differs."""
    p_values = statistics.anderson_darling_p_value(np.linspace(0.5, 300.0, 200))

    assert (np.diff(p_values) < 0).all()
    assert p_values[-1] > 0
    assert float(statistics.anderson_darling_p_value(np.array(0.0))) == pytest.approx(1.0)
    assert float(statistics.mood_p_value(np.array(0.0), 100, 100)) == 1.0


RNG_SEEDS = range(20)


def samples(seed: int, digits: int = 15) -> tuple[FloatArray, FloatArray]:
    """Draw two sorted samples of different law and size."""
    rng = np.random.default_rng(seed)
    reference, window = rng.normal(size=int(rng.integers(1, 400))), rng.normal(0.3, 1.5, int(rng.integers(1, 400)))
    return np.sort(reference.round(digits)), np.sort(window.round(digits))


@pytest.mark.parametrize("seed", RNG_SEEDS)
@pytest.mark.parametrize("digits", [15, 1, 0])
def test_ks_statistic(seed: int, digits: int) -> None:
    """The KS distance is SciPy's, with ties and without."""
    reference, window = samples(seed, digits)
    expected = stats.ks_2samp(reference, window).statistic

    assert expected == pytest.approx(statistics.ks_statistic(Pair(reference, window)))


def test_noise_floor_is_the_mean_under_the_null() -> None:
    """Without any change the KS distance averages its noise floor."""
    rng = np.random.default_rng(4)
    found = [
        statistics.ks_statistic(Pair(np.sort(rng.normal(size=3000)), np.sort(rng.normal(size=300)))) for _ in range(300)
    ]

    assert np.mean(found) == pytest.approx(statistics.ks_noise_floor(3000, 300), rel=0.05)


@pytest.mark.parametrize("distinct", [1, 3, 50, 10_000])
def test_middle_ranks_are_scipys(distinct: int) -> None:
    """Equal values share their mean rank, to the last bit as SciPy ranks them."""
    values = np.random.default_rng(distinct).integers(distinct, size=1000) / 7

    assert statistics.middle_ranks(values).tolist() == stats.rankdata(values).tolist()


def test_nothing_has_no_ranks() -> None:
    """An empty sample is no error."""
    assert statistics.middle_ranks(np.empty(0)).tolist() == []


K = np.arange(1.0, 2001.0)
ANDERSON_DARLING = 1 / (K * (K + 1))


def by_inversion(weights: FloatArray, x: float) -> float:
    """Probability that ``sum weights chi-square_1`` exceeds x: Imhof (1961), doi:10.1093/biomet/48.3-4.419."""

    def integrand(u: float) -> float:
        angle = (np.arctan(weights * u).sum() - x * u) / 2
        return float(np.sin(angle) / (u * np.exp(np.log1p((weights * u) ** 2).sum() / 4)))

    return 0.5 + integrate.quad(integrand, 1e-9, 2000.0 / x, limit=2000)[0] / np.pi


@pytest.mark.parametrize("x", [0.5, 1.0, 2.5, 4.0, 7.0])
def test_tail(x: float) -> None:
    """The tail is the one that numeric inversion gives, in the middle and far out."""
    expected = by_inversion(ANDERSON_DARLING, x)

    assert float(anderson_darling_tail(np.array(x))) == pytest.approx(expected, abs=2e-4, rel=0.02)


@pytest.mark.parametrize("digits", [15, 1])
def test_rank_auc_is_scikit_learns(digits: int) -> None:
    """The area by ranks is scikit-learn's, with ties and without."""
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(3)
    scores, positive = rng.normal(size=300).round(digits), rng.random(300) < 0.3
    expected = roc_auc_score(positive, scores)

    assert expected == pytest.approx(rank_auc(stats.rankdata(scores), positive), abs=1e-12)


def test_far_tail_is_that_of_the_largest_term() -> None:
    """Far out the ratio of two tail probabilities is that of the law's largest chi-square alone."""
    nearer, farther = anderson_darling_tail(np.array([20.0, 21.0]))

    assert farther / nearer == pytest.approx(np.exp(-1) * (20 / 21) ** 0.5, rel=0.01)
