"""The simulated months can alarm: what stays silent over months is not deaf."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.store.queries.alerts import Change
from benchmarks.months.month import Month, live, settings
from benchmarks.months.replay import watching
from benchmarks.months.results import results
from benchmarks.months.stream import BEGIN, DAY, NAME, Rows, Stream


class Moved(Stream):
    """A stream whose last feature has moved by one sigma when the replay begins."""

    def day(self, day: int) -> Rows:
        """The stable stream's rows, moved."""
        rows = super().day(day)
        return rows._replace(features=rows.features + np.array([0, 0, 0, 0, day >= 0]))


def days(folder: Path, stream: Stream, number: int) -> Sequence[Change]:
    """What is told in some days, each in a watch of its own."""

    async def run() -> Sequence[Change]:
        told: list[Change] = []
        for day in range(number):
            async with watching(settings(folder), folder / NAME / "1", now=BEGIN + day * DAY) as watch:
                await live(watch, stream, day)
            told += watch.told
        return told

    stream.bundle(folder)
    return asyncio.run(run())


def test_a_drift_is_told_once_at_its_simulated_time(tmp_path: Path) -> None:
    """A drift of one feature is one alert, on the day of the simulation, also when the days are simulated in parts."""
    told = days(tmp_path, Moved(seed=3, rows_per_hour=5.0), 2)

    assert [(change.event, change.alert.rule) for change in told] == [("firing", "feature_drift")]
    assert BEGIN < told[0].alert.since <= BEGIN + DAY


def test_a_stream_is_the_same_again() -> None:
    """A day depends on seed and day alone, follows the clock, and a 20th of its labels is wrong."""
    one, again = (Stream(4, 100.0).day(5) for _ in range(2))
    hours = one.times % DAY * 24 // DAY

    assert all(np.array_equal(*pair) for pair in zip(one, again, strict=True))
    assert np.sum(hours == 15) > 2 * np.sum(hours == 3)
    assert one.features[hours == 15, 0].mean() - one.features[hours == 3, 0].mean() > 0.5


def test_results_are_held_against_poissons_law() -> None:
    """Three alerts in a month agree with one a month, six do not."""
    told = {"rule": "feature_drift", "severity": "low", "event": "firing", "hours": 36.0}
    month = Month(1, 30.0, 30, Counter(drift=9), [told] * 3)
    few = results([month])
    month.told *= 2

    assert "| alerts told in 1.0 stable months | 3 | at most 3 (one a month, 95 % of Poisson's law) | met |" in few
    assert "| 30 | 1 | 30 | 9 | 0 | 3 |" in few
    assert "| 30 | 1 | 1.5 |  | feature_drift | low |" in few
    assert "| 6 | at most 3 (one a month, 95 % of Poisson's law) | **missed** |" in results([month])
