"""The laws of quadratic forms agree with numerical inversion of their characteristic functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate

from app.monitoring.statistics import FloatArray
from app.monitoring.statistics.tails import anderson_darling_tail, cramer_von_mises_tail

K = np.arange(1.0, 2001.0)
ANDERSON_DARLING, CRAMER_VON_MISES = 1 / (K * (K + 1)), 1 / (K * np.pi) ** 2


def by_inversion(weights: FloatArray, x: float) -> float:
    """Probability that ``sum weights chi-square_1`` exceeds x: Imhof (1961), doi:10.1093/biomet/48.3-4.419."""

    def integrand(u: float) -> float:
        angle = (np.arctan(weights * u).sum() - x * u) / 2
        return float(np.sin(angle) / (u * np.exp(np.log1p((weights * u) ** 2).sum() / 4)))

    return 0.5 + integrate.quad(integrand, 1e-9, 2000.0 / x, limit=2000)[0] / np.pi


@pytest.mark.parametrize(
    ("tail", "weights", "points"),
    [
        (anderson_darling_tail, ANDERSON_DARLING, (0.5, 1.0, 2.5, 4.0, 7.0)),
        (cramer_von_mises_tail, CRAMER_VON_MISES, (0.1, 0.2, 0.5, 0.75, 1.2)),
    ],
)
def test_tail(tail: Callable[[FloatArray], FloatArray], weights: FloatArray, points: tuple[float, ...]) -> None:
    """Both give the same probability, in the middle and in the tail."""
    for x in points:
        assert float(tail(np.array(x))) == pytest.approx(by_inversion(weights, x), abs=2e-4, rel=0.02)


def test_far_tail_is_that_of_the_largest_term() -> None:
    """Far out the ratio of two tail probabilities is that of the law's largest chi-square alone."""
    nearer, farther = anderson_darling_tail(np.array([20.0, 21.0]))

    assert farther / nearer == pytest.approx(np.exp(-1) * (20 / 21) ** 0.5, rel=0.01)
