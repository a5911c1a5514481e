"""Tests and corrections of proportions agree with SciPy, and keep their level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app import statistics


def test_share_p_value_is_fishers() -> None:
    """A share's p-value is twice the smaller one-sided p-value of SciPy's Fisher test."""
    table = np.array([[990, 10], [480, 20]])
    sides = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
    found = statistics.share_p_values(np.array([10]), 1000, np.array([20]), 500)

    assert 2 * min(sides) == pytest.approx(float(found[0]))


def test_tails_share_the_observed_point() -> None:
    """The two mid-p tails sum to one, and lie half a point below Fisher's."""
    rise, fall = statistics.share_tails(np.array([10]), 1000, np.array([20]), 500)
    fisher = stats.fisher_exact(np.array([[20, 10], [480, 990]]), alternative="greater").pvalue
    point = stats.hypergeom.pmf(20, 1500, 30, 500)

    assert float(rise[0] + fall[0]) == pytest.approx(1.0)
    assert float(rise[0]) == pytest.approx(fisher - point / 2)


@pytest.mark.parametrize("share", [0.002, 0.01, 0.1, 0.5])
def test_level_of_the_mid_p(share: float) -> None:
    """When nothing has changed, each tail is below one in a hundred about that often, at rare shares no more often."""
    rng = np.random.default_rng(1)
    tails = statistics.share_tails(rng.binomial(10_000, share, 40_000), 10_000, rng.binomial(1000, share, 40_000), 1000)

    for p_values in tails:
        assert np.mean(p_values <= 0.01) <= 0.013


@pytest.mark.parametrize("seed", range(5))
def test_tails_are_scipys(seed: int) -> None:
    """At rare and common shares, small and large counts, likely and absurd ones, the tails are SciPy's."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 20_000)), int(rng.integers(1, 5000))
    share = rng.random(30) ** 3
    a, b = rng.binomial(n, share), rng.binomial(m, np.clip(share * rng.choice([0.5, 1.0, 2.0], 30), 0, 1))
    rise, fall = statistics.share_tails(a, n, b, m)
    point = stats.hypergeom.pmf(b, n + m, a + b, m) / 2

    assert rise == pytest.approx(stats.hypergeom.sf(b, n + m, a + b, m) + point, rel=1e-6, abs=1e-12)
    assert fall == pytest.approx(stats.hypergeom.cdf(b - 1, n + m, a + b, m) + point, rel=1e-6, abs=1e-12)


RNG_SEEDS = range(20)


@pytest.mark.parametrize("seed", RNG_SEEDS)
def test_benjamini_hochberg(seed: int) -> None:
    """Adjusted p-values are SciPy's, in the order given."""
    p_values = np.random.default_rng(seed).random(25) ** 3

    assert stats.false_discovery_control(p_values) == pytest.approx(statistics.benjamini_hochberg(p_values))


def test_widen() -> None:
    """A z of four standard errors is one of two when the variance is four times as large."""
    p_values = stats.norm.sf(np.array([4.0, 0.0, -4.0]))

    assert stats.norm.sf([2.0, 0.0, -2.0]) == pytest.approx(statistics.widen(p_values, 4.0))
    assert p_values == pytest.approx(statistics.widen(p_values, 1.0))
