"""What is watched, compared column by column: one that cannot be compared is an error, and the others go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from app.monitoring.columns import ReferenceColumn, score_of
from app.monitoring.comparison import Comparison, compare
from app.monitoring.encoding import encode_labels, encode_probabilities
from app.store.windows import Window
from app.types import Json, ModelSchema


def answers(schema: ModelSchema, window: Window) -> list[NDArray[Any]]:
    """Encode the window's predictions and, where the model gave any, the probability that is watched."""
    predictions = encode_labels(schema, window.predictions)
    probabilities = encode_probabilities(schema, window.probabilities)
    return [predictions] if probabilities is None else [predictions, score_of(schema, probabilities)]


def compare_all(
    watched: Sequence[ReferenceColumn],
    arrays: Sequence[NDArray[Any]],
    errors: list[Json],
    inflations: Sequence[float] | None = None,
    distinct: float = 1.0,
) -> list[Comparison | None]:
    """Compare each column, None where that fails; ``errors`` gets an entry for it, and for each that says little."""
    wider = inflations or [1.0] * len(watched)
    return [_compare(*each, distinct, errors) for each in zip(watched, arrays, wider, strict=True)]


def _compare(
    column: ReferenceColumn, array: NDArray[Any], inflation: float, distinct: float, errors: list[Json]
) -> Comparison | None:
    try:
        found = compare(column, array, inflation, distinct)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one column, the others are still compared
        errors.append({"feature": column.subject.name, "reason": f"not compared: {type(error).__name__}: {error}"})
        return None
    if found.note is not None:
        errors.append({"feature": column.subject.name, "reason": found.note})
    return found
