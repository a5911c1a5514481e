"""A small world whose model is right in one region and unsure in another, for the tests of estimated performance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.estimation.report import comparison
from app.monitoring.estimation.samples import Sample
from app.monitoring.performance.scoring import Measured, Scored
from app.monitoring.reference.reference import Reference
from app.store.queries.windows import Window
from app.types import SECOND, Feature, FeatureType, Label, Micros, ModelSchema, Task

NUMBERS = tuple(Feature(name, FeatureType.NUMERIC, nullable=True) for name in ("x", "y"))
BINARY = ModelSchema("m", "1", Task.BINARY, NUMBERS, (0, 1), 1)
MULTICLASS = ModelSchema("m", "1", Task.MULTICLASS, NUMBERS, ("a", "b", "c"))
REGRESSION = ModelSchema("m", "1", Task.REGRESSION, NUMBERS)
SCHEMAS = {"binary": BINARY, "multiclass": MULTICLASS, "regression": REGRESSION}


def sample(schema: ModelSchema, rows: int, seed: int, shift: float = 0.0) -> Sample:
    """Draw rows of which ``shift`` moves the input towards the region where the model is worth little."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal((shift, 0.0), 1.0, (rows, 2))
    return Sample(inputs, np.zeros(rows, dtype=np.bool_), answer(schema, inputs, rng))


def answer(schema: ModelSchema, inputs: NDArray[np.float64], rng: np.random.Generator) -> Scored:
    """Answer as if only ``y`` mattered, while the truth becomes a coin toss, or noisy, as ``x`` grows."""
    x, y = inputs.T
    worth = 1 / (1 + np.exp(2 * x))
    if schema.task is Task.REGRESSION:
        return Scored(schema, 5 + y + (1.2 - worth) * rng.normal(size=len(x)), 5 + y, None)
    logits = np.stack([-2 * y, 2 * y, np.zeros(len(y))], axis=1)[:, : len(schema.classes)]
    said = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    chances = said * worth[:, None] + (1 - worth[:, None]) / len(schema.classes)
    truth = (chances.cumsum(axis=1) < rng.random((len(x), 1))).sum(axis=1)
    return Scored(schema, truth, said.argmax(axis=1), said)


def reference(schema: ModelSchema, rows: int, seed: int = 0, **others: Any) -> Reference:
    """Make a reference of drawn rows."""
    drawn = sample(schema, rows, seed)
    found = drawn.answers
    given = {"outcomes": found.outcomes, "probabilities": found.probabilities, "sha256": "abc"} | others
    return Reference(schema, list(drawn.inputs.T), found.predictions, **given)


def window(schema: ModelSchema, drawn: Sample, *, labelled: bool = False) -> Window:
    """Make a window of drawn rows, one a second."""
    count, found = drawn.rows, drawn.answers

    def labels(encoded: NDArray[Any]) -> list[Label]:
        return encoded.tolist() if schema.task is Task.REGRESSION else [schema.classes[code] for code in encoded]

    nothing: list[Any] = [None] * count
    times = [Micros(row * SECOND) for row in range(count)]
    return Window(
        ids=[f"row-{row}" for row in range(count)],
        features=[tuple(None if np.isnan(value) else value for value in row) for row in drawn.inputs.tolist()],
        predictions=labels(found.predictions),
        probabilities=nothing if found.probabilities is None else [tuple(row) for row in found.probabilities],
        predicted_at=times,
        sampled_from=count,
        hours=1.0,
        outcomes=[*labels(found.outcomes)] if labelled else nothing,
        values=nothing,
        recorded_at=[*times] if labelled else nothing,
    )


def held(pairs: Iterable[tuple[Mapping[str, Measured], Scored]], *names: str) -> dict[str, float]:
    """Tell how often the 95 % band of each metric held the realised one of the same rows."""
    hits: dict[str, list[bool]] = {name: [] for name in names}
    for estimates, answers in pairs:
        for name, found in hits.items():
            beside = comparison(estimates, answers)["metrics"][name]
            found.append(bool(beside["within"]))
    return {name: float(np.mean(found)) for name, found in hits.items()}
