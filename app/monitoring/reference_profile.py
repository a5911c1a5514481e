"""The profile of a reference, for people, verdicts and the buckets of metrics."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.metrics import metrics
from app.monitoring.reference.columns import ReferenceColumn, describe
from app.monitoring.reference.importance import answer_dependence
from app.monitoring.reference.qualification import qualify
from app.monitoring.reference.reference import (
    PROFILE,
    Reference,
    encode,
    encode_labels,
    encode_probabilities,
    save_reference,
)
from app.types import Answer, Json, Micros, ModelSchema, Row, Task, to_rfc3339


def record_reference(
    folder: Path,
    schema: ModelSchema,
    rows: Sequence[Row],
    predict: Callable[[Sequence[Row]], Sequence[Answer]],
    *,
    outcomes: NDArray[Any],
    times: NDArray[np.int64] | None,
    in_sample: bool,
    now: Micros,
) -> None:
    """Let a model answer its reference; write ``reference.npz`` and ``profile.json``.

    Args:
        rows: in order of ``times``, where there are any.
        outcomes: the truth as :func:`encode_labels` gives it.
    """
    answers = predict(rows)
    predictions = encode_labels(schema, [answer.prediction for answer in answers])
    probabilities = encode_probabilities(schema, [answer.probabilities for answer in answers])
    known = np.isfinite(outcomes) if schema.task is Task.REGRESSION else outcomes >= 0
    part = None if probabilities is None else probabilities[known]
    reference = Reference(
        schema,
        encode(schema, rows),
        predictions,
        probabilities,
        outcomes,
        times,
        created_at=to_rfc3339(now),
        in_sample=in_sample,
        baseline=metrics(schema, outcomes[known], predictions[known], part) if known.any() else {},
        dependence=_dependence(schema, rows, predict),
    )
    save_reference(folder, reference)
    (folder / PROFILE).write_text(json.dumps(profile(reference), indent=1, allow_nan=False), encoding="utf-8")


def profile(reference: Reference) -> Json:
    """Summarise a reference for ``profile.json``, and qualify it."""
    return {
        "rows": reference.rows,
        "created_at": reference.created_at,
        "in_sample": reference.in_sample,
        "features": {column.subject.name: _summary(column) for column in reference.features},
        "prediction": _summary(reference.answers[0]),
        "baseline": dict(reference.baseline),
        "dependence": dict(reference.dependence),
        "qualification": qualify(reference.features, reference.answers, reference.times),
    }


def _dependence(
    schema: ModelSchema, rows: Sequence[Row], predict: Callable[[Sequence[Row]], Sequence[Answer]]
) -> dict[str, float]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return answer_dependence(schema, rows, predict)
    except Exception:  # noqa: BLE001 - a model may raise anything on values that never stood in one row; it still serves
        return {}


def _summary(column: ReferenceColumn) -> Json:
    summary = describe(column.subject, column.present, column.counts, column.bins)
    rest = {name: value for name, value in summary.items() if name != "histogram"}
    return {"type": column.subject.type, **summary["histogram"], **rest}
