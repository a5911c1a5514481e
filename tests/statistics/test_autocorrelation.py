"""The number of independent rows that a series is worth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from app.statistics.autocorrelation import Independence, autocorrelations, effective_rows


def chain(rng: np.random.Generator, rows: int, phi: float) -> NDArray[np.float64]:
    """A stationary autoregression of first order, whose rows are worth (1 - phi) / (1 + phi) each."""
    noise = rng.normal(size=rows + 200)
    return np.asarray(signal.lfilter([1.0], [1.0, -phi], noise)[200:], dtype=np.float64)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "ties", "binary"])
def test_independent_rows_count_in_full(kind: str) -> None:
    """The mean over samples of independent rows is at least 95 % of the rows: power is not given away."""
    rng = np.random.default_rng(3)
    draws = {
        "normal": rng.normal(size=(100, 1000)),
        "heavy tails": rng.standard_cauchy((100, 1000)),
        "ties": rng.poisson(1.0, (100, 1000)).astype(np.float64),
        "binary": (rng.random((100, 1000)) < 0.3).astype(np.float64),
    }

    assert np.mean([effective_rows(sample) for sample in draws[kind]]) >= 950


@pytest.mark.parametrize("phi", [0.5, 0.8, 0.95])
def test_dependent_rows_count_for_less(phi: float) -> None:
    """The bound stays below the truth in nearly all samples, and within a factor of three of it on average."""
    rng = np.random.default_rng(4)
    truth = 5000 * (1 - phi) / (1 + phi)
    found = np.array([effective_rows(chain(rng, 5000, phi)) for _ in range(60)])

    assert np.mean(found > truth) <= 0.2
    assert truth / 3 < found.mean() <= truth


def test_neighbours_that_differ_count_once() -> None:
    """Negative autocorrelation never gives more rows than there are."""
    assert effective_rows(chain(np.random.default_rng(5), 1000, -0.6)) == 1000


def test_units_outliers_and_missing_values_change_nothing() -> None:
    """Ranks decide: another unit or an outlier in the largest value's place leaves the count, and NaN is left out."""
    series = chain(np.random.default_rng(6), 1000, 0.5)
    broken = np.where(series == series.max(), 1e9, series)
    gaps = np.insert(series, [0, 500, 1000], np.nan)

    counts = {effective_rows(each) for each in (series, series * 1e-6, broken, gaps)}

    assert len(counts) == 1


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [1.0], [2.0] * 7, [1.0, 2.0]])
def test_short_and_constant_series(values: list[float]) -> None:
    """Nothing to correlate: every present value counts."""
    assert effective_rows(np.array(values)) == np.count_nonzero(~np.isnan(values))


def test_autocorrelations_are_those_of_the_ranks() -> None:
    """The transform gives what the definition gives, with ties at their middle rank."""
    values = np.array([3.0, 1.0, 1.0, 2.0, 5.0, 3.0])
    ranks = np.array([4.5, 1.5, 1.5, 3.0, 6.0, 4.5]) - 3.5
    expected = [(ranks[lag:] * ranks[:-lag]).sum() / (ranks**2).sum() for lag in range(1, 6)]

    assert autocorrelations(values) == pytest.approx(expected)


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
