"""Models whose true performance is known, because their rows can be drawn without end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import special, stats

from app.monitoring.performance.scoring import Scored
from app.statistics import FloatArray
from app.types import ModelSchema, Task

BINARY = ModelSchema("m", "1", Task.BINARY, (), (0, 1), 1)
MULTICLASS = ModelSchema("m", "1", Task.MULTICLASS, (), ("a", "b", "c", "d"))
REGRESSION = ModelSchema("m", "1", Task.REGRESSION, ())


@dataclass(frozen=True, slots=True)
class Population:
    """Rows of one kind; ``draw`` takes a generator and the number of rows, and simulations repeat it so often."""

    name: str
    draw: Callable[[np.random.Generator, int], Scored]
    repetitions: int = 400


def binary(
    rng: np.random.Generator, rows: int, *, prevalence: float = 0.3, sharpness: float = 1.8, slope: float = 0.8
) -> Scored:
    """Probabilities whose logit is normal; with a slope below 1 the model is surer than it may be."""
    logit = rng.normal(special.logit(prevalence), sharpness, rows)
    outcomes = (rng.random(rows) < special.expit(slope * logit)).astype(np.int32)
    said = special.expit(logit)
    return Scored(BINARY, outcomes, (said >= 0.5).astype(np.int32), np.column_stack([1 - said, said]))


def guesses(rng: np.random.Generator, rows: int, *, accuracy: float) -> Scored:
    """Answers without probabilities, of which such a share is right in either class."""
    outcomes = rng.integers(0, 2, rows, dtype=np.int32)
    right = rng.random(rows) < accuracy
    return Scored(BINARY, outcomes, np.where(right, outcomes, 1 - outcomes), None)


def multiclass(rng: np.random.Generator, rows: int) -> Scored:
    """Four classes of shares 0.4, 0.3, 0.2 and 0.1, whose probabilities are Dirichlet and a little too sure."""
    truth = rng.dirichlet([1.6, 1.2, 0.8, 0.4], rows)
    outcomes = (rng.random((rows, 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(0, 3).astype(np.int32)
    said = truth**1.3 + 1e-6
    said /= said.sum(axis=1, keepdims=True)
    return Scored(MULTICLASS, outcomes, said.argmax(axis=1).astype(np.int32), said)


def regression(
    rng: np.random.Generator, rows: int, *, noise: Callable[[np.random.Generator, int], FloatArray]
) -> Scored:
    """Outcomes that are lognormal around e, answered with an error of their own law."""
    outcomes = np.exp(rng.normal(1.0, 0.5, rows))
    return Scored(REGRESSION, outcomes, outcomes + 0.5 * noise(rng, rows), None)


def _normal(rng: np.random.Generator, rows: int) -> FloatArray:
    return rng.normal(size=rows)


def _heavy(rng: np.random.Generator, rows: int) -> FloatArray:
    return np.asarray(stats.t(5).rvs(rows, random_state=rng), dtype=np.float64)


def _skewed(rng: np.random.Generator, rows: int) -> FloatArray:
    return np.asarray(rng.lognormal(0.0, 0.7, rows) - np.exp(0.245), dtype=np.float64)


POPULATIONS = (
    Population("binary", binary),
    Population("binary, calibrated", partial(binary, slope=1.0)),
    Population("binary, 10 % positive", partial(binary, prevalence=0.03, sharpness=2.5)),
    Population("binary, nearly perfect", partial(binary, sharpness=12.0, slope=1.0)),
    Population("four classes", multiclass),
    Population("regression, normal errors", partial(regression, noise=_normal), 4_000),
    Population("regression, Student's errors (5 degrees)", partial(regression, noise=_heavy), 4_000),
    Population("regression, lognormal errors", partial(regression, noise=_skewed), 4_000),
)
