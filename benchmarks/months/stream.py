"""A stable service: its rate and two of its five features follow the hour of the day, and one label in 20 is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from app.bundling import build_bundle
from app.types import SECOND

DAY = 86_400 * SECOND
HOUR = 3600 * SECOND
BEGIN = 20_458 * DAY
"""A Monday, at midnight."""
REFERENCE_DAYS = 14
REFERENCE_RATE = 30.0
"""Rows an hour of the reference, whatever the rate of the stream: 10,000 in two weeks."""
FEATURES = ("a", "b", "c", "d", "e")
NAME = "months"
_WEIGHTS = np.array([1.0, 0.8, -0.6, 0.4, 0.0])
_SEASONAL = np.array([0.5, 0.0, 0.3, 0.0, 0.0])
"""How far each feature's mean moves over the day, in standard deviations."""
_BUSY = 0.6
"""How far the rate moves over the day, in parts of its mean."""
_WRONG, _LABELLED = 0.05, 0.9
_DELAY_H, _MAX_DELAY_H = 2.0, 24.0


class Rows(NamedTuple):
    """A day's rows in order of time; ``came`` is when the label came, -1 where none does."""

    times: NDArray[np.int64]
    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    came: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stream:
    """One stable stream: day 0 is the first that is watched, and each day is a function of seed and day alone."""

    seed: int
    rows_per_hour: float

    def day(self, day: int) -> Rows:
        """Rows as a Poisson process of changing rate, and their labels."""
        rng = np.random.default_rng([self.seed, day + 1000])
        most = self.rows_per_hour * (1 + _BUSY)
        times = np.sort(rng.integers(0, DAY, rng.poisson(24 * most)))
        times = times[rng.random(len(times)) * (1 + _BUSY) < 1 + _BUSY * _wave(times)]
        features = rng.normal(size=(len(times), len(FEATURES))) + _wave(times)[:, None] * _SEASONAL
        labels = (features @ _WEIGHTS > 0) ^ (rng.random(len(times)) < _WRONG)
        delays = np.minimum(rng.exponential(_DELAY_H, len(times)), _MAX_DELAY_H) * HOUR
        times = times + BEGIN + day * DAY
        came = np.where(rng.random(len(times)) < _LABELLED, times + delays.astype(np.int64), -1)
        return Rows(times, features, labels.astype(np.int64), came)

    def bundle(self, models: Path) -> LogisticRegression:
        """Fit a model on two weeks, bundle it with the next two, up to day 0, as its reference, and give it."""
        train, holdout = self._frame(-2 * REFERENCE_DAYS), self._frame(-REFERENCE_DAYS)
        model = LogisticRegression().fit(train[list(FEATURES)], train["label"])
        build_bundle(model, data=train, holdout=holdout, target="label", name=NAME, models=models, time="time")
        return model

    def _frame(self, first: int) -> pd.DataFrame:
        past = replace(self, rows_per_hour=REFERENCE_RATE)
        days = [past.day(day) for day in range(first, first + REFERENCE_DAYS)]
        frame = pd.DataFrame(np.concatenate([rows.features for rows in days]), columns=list(FEATURES))
        frame["label"] = np.concatenate([rows.labels for rows in days])
        frame["time"] = pd.to_datetime(np.concatenate([rows.times for rows in days]), unit="us", utc=True)
        return frame


def _wave(times: NDArray[np.int64]) -> NDArray[np.float64]:
    """From -1 at 3 o'clock at night to 1 at 3 in the afternoon."""
    return np.asarray(np.sin((times % DAY / DAY - 9 / 24) * 2 * np.pi))
