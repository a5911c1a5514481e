"""How many independent rows a window is worth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.independence import Independence


def with_memory(seed: int, rows: int, memory: float) -> NDArray[np.float64]:
    """A stationary series in which each value keeps a share of the one before."""
    rng = np.random.default_rng(seed)
    series = np.empty(rows)
    series[0] = rng.normal()
    for row in range(1, rows):
        series[row] = memory * series[row - 1] + np.sqrt(1 - memory**2) * rng.normal()
    return series


def test_independent_rows_count_fully() -> None:
    """Independent numbers and categories are worth nearly all their rows, so that no power is lost."""
    rng = np.random.default_rng(1)
    worth = [Independence.of(rng.normal(size=1000)).values for _ in range(40)]
    codes = [Independence.of(rng.integers(0, 5, 1000).astype(np.int32)).values for _ in range(40)]

    assert np.mean(worth) > 0.97
    assert np.mean(codes) > 0.97


def test_memory_counts() -> None:
    """A series that keeps 0.8 of its last value is worth a ninth of its rows; the estimate is rather below."""
    worth = [Independence.of(with_memory(seed, 1000, 0.8)).values for seed in range(10)]

    assert 0.04 < np.median(worth) < 0.14


def test_a_drift_that_begins_within_the_window_is_no_memory() -> None:
    """Rows that are independent before and after a step are worth their number."""
    rng = np.random.default_rng(2)
    step = np.concatenate([rng.normal(size=600), rng.normal(3.0, 1.0, 400)])

    assert Independence.of(step).values > 0.9


def test_missing_values_have_a_memory_of_their_own() -> None:
    """Values that go missing in stretches tell less about their share than ones that go missing singly."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=2000)
    values[np.repeat(rng.random(100) < 0.2, 20)] = np.nan
    worth = Independence.of(values)

    assert worth.values > 0.9
    assert worth.gaps < 0.3


def test_inflation() -> None:
    """The variance of a difference is that of both sides, each by what its rows are worth."""
    null = Independence(0.5, 1.0).inflation(1000, Independence(0.25, 1.0), 4000)

    assert null.values == pytest.approx((1 / 500 + 1 / 1000) / (1 / 1000 + 1 / 4000))
    assert null.gaps == pytest.approx(1.0)
