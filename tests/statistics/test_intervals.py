"""Intervals hold the truth as often as they say, on both sides, and never leave what is possible."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from app.monitoring.performance.metrics import Calibration, metrics
from app.monitoring.performance.standard_errors import Explained, spread
from app.statistics import intervals
from app.statistics.intervals import Bounded, Interval, Mean, RootMean, Share
from benchmarks.performance.coverage import coverage
from benchmarks.performance.populations import POPULATIONS, Population, binary
from tests.support.monitoring.labelled_windows import binary as two_classes
from tests.support.monitoring.labelled_windows import draw, multiclass

SKEWED = POPULATIONS[-1]


@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (50, 50), (1, 50), (700, 1000)])
def test_a_share_has_jeffreys_interval(hits: int, trials: int) -> None:
    """The quantiles of the beta law, and the end of the scale where all or none were hits."""
    law = stats.beta(hits + 0.5, trials - hits + 0.5)
    low, high = Share(hits, trials).bounds(0.99)

    assert low == pytest.approx(law.ppf(0.005) if hits else 0.0, abs=1e-12)
    assert high == pytest.approx(law.ppf(0.995) if hits < trials else 1.0, abs=1e-12)


def test_a_tail_of_a_share_keeps_its_level() -> None:
    """At one in ten thousand, the upper bound of a share of 0.85 misses about as often as it says, exactly counted."""
    missed = [hits for hits in range(1001) if Share(hits, 1000).bounds(1 - 2e-4)[1] < 0.85]
    rate = sum(stats.binom.pmf(hits, 1000, 0.85) for hits in missed)

    assert 0.3e-4 < rate < 1.5e-4


def test_without_skewness_a_mean_has_students_interval() -> None:
    """Of symmetric rows, the interval is Student's."""
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0] * 10)
    expected = stats.t.interval(0.95, 49, values.mean(), stats.sem(values))

    assert Mean.of(values).bounds(0.95) == pytest.approx(expected)


def test_one_row_says_nothing() -> None:
    """Of a single row all is possible, down to the floor."""
    assert Mean.of(np.array([3.0]), 0.0).bounds(0.95) == (0.0, math.inf)
    assert Share(0, 0).bounds(0.95) == (0.0, 1.0)


@pytest.mark.parametrize("confidence", [0.95, 1 - 1e-9])
def test_bounds_stay_possible(confidence: float) -> None:
    """However certain one wants to be, shares stay in [0, 1], errors above 0, and R squared below 1."""
    rng = np.random.default_rng(1)
    errors = rng.lognormal(0, 2, 60)
    intervals: list[Interval] = [Bounded(0.99, 0.02, 60), Bounded(1.0, 0.0, 60), Bounded(0.0, 0.0, 60), Share(60, 60)]
    for interval in intervals:
        low, high = interval.bounds(confidence)
        assert 0 <= low < high <= 1
    for positive in (Mean.of(errors, 0.0), RootMean(Mean.of(errors**2, 0.0))):
        low, high = positive.bounds(confidence)
        assert 0 <= low < high
    low, high = Explained.of(errors**2, rng.normal(0, 50, 60) ** 2).bounds(confidence)
    assert low < high <= 1


def test_perfect_answers_have_an_interval() -> None:
    """Errors of nothing give R squared 1, and deviations of nothing leave all open."""
    some = np.arange(1.0, 5.0)

    assert Explained.of(np.zeros(4), some).bounds(0.95) == (1.0, 1.0)
    assert Explained.of(some, np.zeros(4)).bounds(0.95) == (-math.inf, 1.0)
    assert Mean.of(np.zeros(4), 0.0).bounds(0.95) == (0.0, 0.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_influences_are_the_standard_errors_that_windows_show(classes: int) -> None:
    """The standard error of every bounded metric is the spread of its values over repeated windows."""
    schema = two_classes(("a", "b")) if classes == 2 else multiclass(classes)
    windows = [draw(classes, 300, seed=seed) for seed in range(120)]
    values = [metrics(schema, *window) for window in windows]
    sure = [spread(schema, *window, value) for window, value in zip(windows, values, strict=True)]
    bounded = {name for name, interval in sure[0].items() if isinstance(interval, Bounded)}
    for name in bounded:
        errors = [interval.error for each in sure if isinstance(interval := each[name], Bounded)]

        assert np.mean(errors) == pytest.approx(np.std([value[name] or 0.0 for value in values]), rel=0.25), name
    assert {"f1", "roc_auc", "average_precision"} <= bounded


def test_tied_scores_rank_as_one() -> None:
    """Average precision's influence is the same whatever the order of rows with equal scores."""
    actual, scores = np.array([True, False, True, False, True]), np.array([0.9, 0.9, 0.5, 0.5, 0.1])
    swapped = intervals.of_average_precision(actual[[1, 0, 3, 2, 4]], scores)

    assert intervals.of_average_precision(actual, scores)[[1, 0, 3, 2, 4]] == pytest.approx(swapped)


@pytest.mark.parametrize(
    ("population", "repetitions"),
    [(Population("binary", binary), 150), (POPULATIONS[5], 600), (SKEWED, 600)],
    ids=lambda value: value.name if isinstance(value, Population) else "",
)
def test_intervals_hold_the_truth(population: Population, repetitions: int) -> None:
    """Of the intervals of nominal 95 %, about so many hold the true value, at 300 rows and for every metric."""
    truth = {
        name: metric.value or 0.0
        for name, metric in population.draw(np.random.default_rng(1), 300_000).measure().items()
    }
    for name, (held, _, _) in coverage(population, truth, 300, repetitions, seed=2).items():
        assert 0.89 <= held <= 0.995, name


def test_calibration_error_knows_that_chance_opens_gaps() -> None:
    """Of a calibrated model the error found is above 0, and its interval reaches down to 0; of a bad one not."""
    rng = np.random.default_rng(3)
    promised = rng.random(1000)
    good, bad = (Calibration.of(promised, rng.random(1000) < share) for share in (promised, promised**3))

    assert good.value > 0.01
    assert good.bounds(0.95)[0] == 0.0
    assert bad.bounds(0.95)[0] > 0.1
    assert bad.bounds(0.95)[0] < bad.value <= bad.bounds(0.95)[1] <= 1
