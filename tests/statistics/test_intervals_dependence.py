"""Rows that resemble their neighbours count as fewer; independent ones lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from app.statistics import FloatArray
from app.statistics.intervals import Bounded, Dependence, Interval, Mean, MeanShare, RootMean, Share, dependent, of_mean


def chain(correlation: float, rows: int, seed: int) -> FloatArray:
    """A stationary series, each value of which has this correlation with the one before."""
    noise = np.random.default_rng(seed).normal(size=rows + 300) * np.sqrt(1 - correlation**2)
    return np.asarray(lfilter([1.0], [1.0, -correlation], noise)[300:], dtype=np.float64)


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.91), (0.9, 0.91)])
def test_intervals_hold_the_truth(correlation: float, least: float) -> None:
    """Intervals of 95 % hold the true share about as often, with independent rows and with dependent ones."""
    held = 0
    for seed in range(200):
        hits = chain(correlation, 1_000, seed) < 1.2815515655446004
        low, high = dependent(Share(int(hits.sum()), 1_000), of_mean(hits.astype(np.float64))).bounds(0.95)
        held += low <= 0.9 <= high

    assert least <= held / 200 <= 0.985


def test_independent_rows_lose_nothing() -> None:
    """Of independent rows, nearly none is taken for dependent."""
    found = [Dependence.of(chain(0.0, 1_000, seed)).inflation for seed in range(200)]

    assert sum(inflation > 1 for inflation in found) <= 2


def test_a_change_within_the_window_is_no_excuse() -> None:
    """Errors that become more frequent in the midst of a window do not make its rows dependent."""
    errors = np.random.default_rng(3).random(2_000) < np.repeat([0.05, 0.35], 1_000)

    assert Dependence.of(of_mean(errors.astype(np.float64))) == Dependence()


@pytest.mark.parametrize(
    "interval",
    [
        Share(90, 100),
        Share(100, 100),
        MeanShare((Share(90, 100), Share(5, 10))),
        Mean(2.0, 0.1, 0.5, 100, 0.0),
        RootMean(Mean(2.0, 0.1, 0.5, 100, 0.0)),
        Bounded(0.9, 0.02, 200),
        Bounded(1.0, 0.0, 200),
    ],
    ids=str,
)
def test_every_interval_widens(interval: Interval) -> None:
    """Four times the variance gives an interval that holds the old one."""
    low, high = interval.bounds(0.95)
    wider = interval.widened(4.0).bounds(0.95)

    assert wider[0] < low
    assert wider[1] >= high
    assert interval.widened(1.0).bounds(0.95) == pytest.approx((low, high))


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_few_rows_count_as_independent(rows: int) -> None:
    """Where nothing can be told of neighbours, nothing is said."""
    assert Dependence.of(np.arange(rows, dtype=np.float64)) == Dependence()
