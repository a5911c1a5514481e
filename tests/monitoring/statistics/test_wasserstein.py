"""The Wasserstein distance agrees with SciPy and with its own null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from app.monitoring.statistics import RobustScale

RNG_SEEDS = range(20)


@pytest.mark.parametrize("seed", RNG_SEEDS)
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
