"""Corrections agree with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.monitoring import statistics

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
