"""The KS distance agrees with SciPy and with its own null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.monitoring import statistics
from app.monitoring.statistics import FloatArray, Pair

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


@pytest.mark.parametrize("shift", [0.07, 0.09, 0.11])
def test_ks_p_value_in_the_tail(shift: float) -> None:
    """Down to 1e-6 the KS p-value is within a third of the exact two-sample one."""
    reference, window = np.arange(2000) / 2000, np.arange(997) / 997 + shift
    exact = stats.ks_2samp(reference, window, method="exact").pvalue
    distance = statistics.ks_statistic(Pair(reference, window))

    assert exact == pytest.approx(statistics.ks_p_value(distance, 2000, 997), rel=1 / 3)
