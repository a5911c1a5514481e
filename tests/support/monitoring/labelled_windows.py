"""Windows with outcomes, and references with a known performance, for the tests of performance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.degradation import Degradation
from app.monitoring.performance.report import performance_report
from app.monitoring.reference.encoding import encode, encode_labels
from app.monitoring.reference.reference import Reference
from app.store.queries.labelled import Labelled
from app.types import SECOND, Label, Micros, ModelSchema, Row, Scalar, Task

LATER = Micros(10**7 * SECOND)
REGRESSION = ModelSchema("m", "1", Task.REGRESSION, ())


def binary(classes: tuple[Label, ...] = (0, 1), positive: Label | None = None) -> ModelSchema:
    """Make a schema of two classes; the last one is positive unless told otherwise."""
    return ModelSchema("m", "1", Task.BINARY, (), classes, classes[-1] if positive is None else positive)


def multiclass(count: int = 3) -> ModelSchema:
    """Make a schema of many classes."""
    return ModelSchema("m", "1", Task.MULTICLASS, (), tuple(f"c{position}" for position in range(count)))


def draw(classes: int, rows: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Draw outcomes, predictions and probabilities of a model that knows something."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 0.7), rows)
    outcomes = np.array([rng.choice(classes, p=row) for row in probabilities])
    return outcomes, probabilities.argmax(axis=1), probabilities


def window_of(
    predictions: Sequence[Label],
    outcomes: Sequence[Label | None],
    *,
    probabilities: Sequence[tuple[float, ...] | None] | None = None,
    values: Sequence[float | None] | None = None,
    segments: dict[str, Sequence[Scalar]] | None = None,
    start: int = 0,
    delay_s: int = 60,
) -> Labelled:
    """Build a window of one row a second, whose outcomes came a minute later."""
    count = len(predictions)
    times = [Micros((start + row) * SECOND) for row in range(count)]
    came = [
        None if outcome is None else Micros(at + delay_s * SECOND) for at, outcome in zip(times, outcomes, strict=True)
    ]
    nothing = [None] * count
    return Labelled(
        predictions, probabilities or nothing, times, outcomes, values or nothing, came, segments or {}, count
    )


def right(hits: int, rows: int, classes: Sequence[Label] = (0, 1), **others: Any) -> Labelled:
    """Build a window in which the model was right so many times."""
    truth, said = alternating(hits, rows, classes)
    return window_of(said, truth, **others)


def alternating(hits: int, rows: int, classes: Sequence[Label] = (0, 1)) -> tuple[list[Label], list[Label]]:
    """Outcomes of both classes in turn, and predictions of which so many are right."""
    truth = [classes[row % 2] for row in range(rows)]
    return truth, [classes[row % 2] if row < hits else classes[1 - row % 2] for row in range(rows)]


def reference_of(
    schema: ModelSchema,
    truth: Sequence[Label | None],
    said: Sequence[Label],
    rows: Sequence[Row] | None = None,
    **others: Any,
) -> Reference:
    """Build a reference whose outcomes are known."""
    columns = encode(schema, rows or [()] * len(truth))
    return Reference(
        schema, columns, encode_labels(schema, said), outcomes=encode_labels(schema, truth), sha256="abc", **others
    )


def accurate(schema: ModelSchema, share: float, rows: int = 100_000, **others: Any) -> Reference:
    """Build a reference with such a share of right answers, by default so large that its own error hardly counts."""
    truth, said = alternating(round(share * rows), rows, schema.classes)
    return reference_of(schema, truth, said, **others)


def report(window: Labelled, reference: Reference | None, schema: ModelSchema | None = None, **others: Any) -> Any:
    """Judge a window long after its outcomes came."""
    limits = others.pop("limits", Degradation(alpha=1e-4))
    found = schema or (reference.schema if reference else binary())
    return performance_report(found, reference, window, limits, **{"now": LATER, **others})
