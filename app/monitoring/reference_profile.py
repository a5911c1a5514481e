"""The profile of a reference, for people, verdicts and the buckets of metrics."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.monitoring.performance.metrics import metrics
from app.monitoring.reference.columns import ReferenceColumn, describe
from app.monitoring.reference.encoding import ReferenceGroups, numbered
from app.monitoring.reference.qualification import qualify
from app.monitoring.reference.reference import (
    PROFILE,
    Judged,
    Reference,
    encode,
    encode_labels,
    encode_probabilities,
    save_reference,
)
from app.statistics import FloatArray
from app.statistics.autocorrelation import Independence
from app.types import Answer, FeatureType, Json, Micros, ModelSchema, Row, Task, to_rfc3339

Predict = Callable[[Sequence[Row]], Sequence[Answer]]
"""Answers rows as the service will."""
Batch = tuple[Sequence[Row], NDArray[Any]]
"""Rows, and their truth as :func:`encode_labels` gives it."""


def stratified(strata: NDArray[Any], rows: int) -> NDArray[np.int64]:
    """Choose rows so that each stratum keeps its share, evenly spread over its own rows.

    Proportional allocation, rounded to the largest remainders, with at least one row for each stratum: Cochran (1977),
    "Sampling Techniques", sections 5.5 and 8.1. Rows in order of time are so spread over time too.

    Args:
        strata: a code for each row.
        rows: how many to choose; all where there are no more.

    Returns:
        The places of the chosen rows, ascending.

    Raises:
        Nothing.

    Reference:
        Cochran, W. G. (1977), Sampling Techniques, 3rd edition, ISBN 978-0-471-16240-7.

    >>> stratified(np.array([0, 0, 0, 0, 0, 0, 1, 1, 1]), 3).tolist()
    [0, 5, 6]
    """
    if len(strata) <= rows:
        return np.arange(len(strata))
    _, codes, counts = np.unique(strata, return_inverse=True, return_counts=True)
    exact = counts * rows / len(strata)
    sizes = np.maximum(np.floor(exact), 1).astype(np.int64)
    spare = max(rows - int(sizes.sum()), 0)
    sizes[np.argsort(sizes - exact, kind="stable")[:spare]] += 1
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum(counts) - counts
    chosen = [
        order[start + np.linspace(0, count - 1, size).round().astype(np.int64)]
        for start, count, size in zip(starts.tolist(), counts.tolist(), sizes.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def record_reference(
    folder: Path,
    schema: ModelSchema,
    rows: Sequence[Row],
    predict: Predict,
    *,
    outcomes: NDArray[Any],
    times: NDArray[np.int64] | None,
    in_sample: bool,
    now: Micros,
    whole: Iterable[Batch] = (),
    others: Mapping[str, Sequence[Any]] | None = None,
) -> None:
    """Let a model answer its reference; write ``reference.npz`` and ``profile.json``.

    Args:
        rows: in order of ``times``, where there are any.
        outcomes: the truth as :func:`encode_labels` gives it.
        others: columns beside features, outcomes and times, such as the user of each row.
        whole: all rows that ``rows`` were chosen from, in batches; none where all were chosen.
    """
    predictions, probabilities = _answer(schema, rows, predict)
    judged = _judge(schema, whole, predict, ordered=times is not None)
    known = _known(schema, outcomes)
    part = None if probabilities is None else probabilities[known]
    scored = (outcomes[known], predictions[known], part)
    if judged is not None:
        scored = (judged.outcomes, judged.predictions, judged.probabilities)
    reference = Reference(
        schema,
        encode(schema, rows),
        predictions,
        probabilities,
        outcomes,
        times,
        created_at=to_rfc3339(now),
        in_sample=in_sample,
        baseline=metrics(schema, *scored) if len(scored[0]) else {},
        dependence=_dependence(schema, rows, predict),
        judged=judged,
    )
    reference = replace(reference, groups=find_reference_groups(reference.features, others or {}))
    save_reference(folder, reference)
    (folder / PROFILE).write_text(json.dumps(profile(reference), indent=1, allow_nan=False), encoding="utf-8")


def _answer(
    schema: ModelSchema, rows: Sequence[Row], predict: Predict
) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Give the encoded predictions and probabilities."""
    answers = predict(rows)
    predictions = encode_labels(schema, [answer.prediction for answer in answers])
    return predictions, encode_probabilities(schema, [answer.probabilities for answer in answers])


def _known(schema: ModelSchema, outcomes: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(outcomes) if schema.task is Task.REGRESSION else outcomes >= 0)


def _judge(schema: ModelSchema, whole: Iterable[Batch], predict: Predict, *, ordered: bool) -> Judged | None:
    """Answer all rows, a batch at a time.

    The result is None where there are none, or where the model fails on one.
    """
    categorical = [place for place, each in enumerate(schema.features) if each.type is FeatureType.CATEGORICAL]
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None, list[NDArray[Any]]]] = []
    try:
        for rows, outcomes in whole:
            known = _known(schema, outcomes)
            predictions, shares = _answer(schema, rows, predict)
            encoded = encode(schema, rows)
            columns = [encoded[place][known] for place in categorical]
            parts.append((outcomes[known], predictions[known], None if shares is None else shares[known], columns))
    except BundleError:
        raise
    except Exception:  # noqa: BLE001 - a model may raise on a value that no kept row has; these then are the reference
        return None
    if not parts:
        return None
    truths, answers = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    given = [part[2] for part in parts if part[2] is not None]
    probabilities = np.concatenate(given) if len(given) == len(parts) else None
    kept = {place: np.concatenate([part[3][row] for part in parts]) for row, place in enumerate(categorical)}
    return Judged(truths, answers, probabilities, kept, ordered)


def profile(reference: Reference) -> Json:
    """Summarise a reference for ``profile.json``, and qualify it."""
    return {
        "rows": reference.rows,
        "judged_rows": reference.judged.rows if reference.judged else reference.rows,
        "created_at": reference.created_at,
        "in_sample": reference.in_sample,
        "features": {column.subject.name: _summary(column) for column in reference.features},
        "prediction": _summary(reference.answers[0]),
        "baseline": dict(reference.baseline),
        "dependence": dict(reference.dependence),
        "qualification": qualify(reference.features, reference.answers, reference.times),
        "entity": _entity(reference.groups),
    }


MIN_GROUPS = 30
"""Different values of a column from which on it may name users rather than regions or channels."""
_MIN_EXPLAINED = 0.1
"""Intraclass correlation from which on rows of one group resemble each other."""
_MIN_COLUMNS_SHARE = 0.25
"""Share of the features that must be explained so."""


def find_reference_groups(
    features: Sequence[ReferenceColumn], others: Mapping[str, Sequence[Any]]
) -> ReferenceGroups | None:
    """Find the column beside the features whose groups, such as users, explain the rows.

    A feature is no candidate: only a window tells whether its values come and go, or always come.

    Args:
        others: values of each row, by the name of their column.
    """
    best: tuple[float, ReferenceGroups] | None = None
    for name, values in others.items():
        known = [value for value in values if value is not None]
        count = len(set(known))
        if not MIN_GROUPS <= count <= len(values) / 2 or len(known) < 0.9 * len(values):
            continue
        codes = numbered(values)
        size = len(values) / (int(codes.max()) + 1)
        shares = np.array([Independence.of_groups(column.values, codes).values for column in features])
        correlations = (1 / shares - 1) / max(size - 1, 1e-9)
        if np.mean(correlations >= _MIN_EXPLAINED) >= _MIN_COLUMNS_SHARE:
            mean = float(correlations.mean())
            best = (mean, ReferenceGroups(name, codes)) if best is None or mean > best[0] else best
    return None if best is None else best[1]


def _entity(groups: ReferenceGroups | None) -> Json | None:
    """Describe the groups for people; null where each row is a sample by itself."""
    return groups and {"name": groups.name, "entities": int(groups.codes.max()) + 1}


def _dependence(schema: ModelSchema, rows: Sequence[Row], predict: Predict) -> dict[str, float]:
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


_MAX_ROWS, _MIN_ROWS = 500, 50
_MAX_ANSWERS = 50_000
"""Rows that the model is asked in all: a slow model of many features is measured on fewer rows."""
_SEED = 20_010_101


def answer_dependence(
    schema: ModelSchema, rows: Sequence[Row], predict: Callable[[Sequence[Row]], Sequence[Answer]]
) -> dict[str, float]:
    """Measure each feature's share of what the answer depends on.

    The shares add up to 1, or are all 0.

    Each row takes the feature's value of another row, drawn from a private generator of fixed seed; measured is the
    mean distance between the answer before and after. Permutation importance without labels, after Breiman (2001),
    doi:10.1023/A:1010933404324, and Fisher, Rudin and Dominici (2019), arXiv:1801.01489. Distances are the total
    variation of the probabilities; without any, the share of other labels, or in regression the absolute difference.

    Args:
        rows: of the reference; of many, an even sample is asked.
        predict: the model.
    """
    count = min(_MAX_ROWS, max(_MIN_ROWS, _MAX_ANSWERS // max(len(schema.features), 1)), len(rows))
    places = np.linspace(0, len(rows) - 1, count).round().astype(np.int64)
    mixed = [rows[place] for place in np.random.default_rng(_SEED).permutation(places).tolist()]
    donors = [*mixed[1:], mixed[0]]
    asked = _answers(schema, predict(mixed))
    changes = [
        float(np.nan_to_num(np.abs(_answers(schema, predict(_exchanged(mixed, donors, place))) - asked)).sum() / count)
        for place in range(len(schema.features))
    ]
    whole = sum(changes)
    return {name: change / whole if whole else 0.0 for name, change in zip(schema.feature_names, changes, strict=True)}


def _exchanged(rows: Sequence[Row], donors: Sequence[Row], place: int) -> list[Row]:
    return [(*row[:place], donor[place], *row[place + 1 :]) for row, donor in zip(rows, donors, strict=True)]


def _answers(schema: ModelSchema, answers: Sequence[Answer]) -> FloatArray:
    """Shape (n, columns): probabilities, else one column per class, else the number."""
    probabilities = encode_probabilities(schema, [answer.probabilities for answer in answers])
    if probabilities is not None:
        return probabilities
    labels = encode_labels(schema, [answer.prediction for answer in answers])
    if schema.classes:
        return np.asarray(labels[:, None] == np.arange(len(schema.classes)), dtype=np.float64)
    return np.asarray(labels[:, None], dtype=np.float64)
