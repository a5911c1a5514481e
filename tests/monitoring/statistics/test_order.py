"""The tests of order: exact statistics, and p-values that hold far out in the tail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.monitoring import statistics
from app.monitoring.statistics import FloatArray, IntArray, Pair

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
    """The Cramér-von Mises distance is SciPy's, and so is its p-value."""
    rng = np.random.default_rng(seed)
    reference, window = np.sort(rng.normal(size=300)), np.sort(rng.normal(0.1, 1.0, int(rng.integers(50, 400))))
    expected = stats.cramervonmises_2samp(reference, window, method="asymptotic")
    found = statistics.cramer_von_mises(Pair(reference, window).ranks, len(reference))
    p_value = statistics.cramer_von_mises_p_value(found, len(reference), len(window))

    assert expected.statistic == pytest.approx(float(found))
    assert expected.pvalue == pytest.approx(float(p_value), rel=0.02, abs=1e-7)


def permuted_ranks(n: int, m: int, looks: int, seed: int) -> IntArray:
    """Draw the window's ranks when each subset of them is as likely as another, shape (looks, m)."""
    order = np.random.default_rng(seed).random((looks, n + m)).argsort(axis=1)
    return np.sort(order[:, :m], axis=1) + 1


@pytest.mark.parametrize(("n", "m"), [(1000, 100), (100, 100)])
def test_null_of_order(n: int, m: int) -> None:
    """When nothing has changed all three tests reject as often as their level says."""
    ranks = permuted_ranks(n, m, looks=6000, seed=3)
    p_values = (
        statistics.anderson_darling_p_value(statistics.anderson_darling(ranks, n)),
        statistics.mood_p_value(statistics.mood_z(ranks, n), n, m),
        statistics.cramer_von_mises_p_value(statistics.cramer_von_mises(ranks, n), n, m),
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
