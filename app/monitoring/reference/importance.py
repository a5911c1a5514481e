"""Measure how much the answer depends on each feature, and rank drifts by impact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from app.monitoring.reference.encoding import encode_labels, encode_probabilities
from app.reports.drift import Column
from app.statistics import FloatArray
from app.types import Answer, ModelSchema, Row

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


def impacts(effects: Mapping[str, float], dependence: Mapping[str, float]) -> dict[str, float]:
    """Rank causes: drift above noise times how much the model's answer depends on the feature.

    ``share * effect / (1 + effect)``: an effect (PSI above noise) is brought into [0, 1) in its own order, so that all
    impacts lie between 0 and 1, and so does their sum. Where no dependence is known, the effect itself.

    >>> impacts({"age": 0.25, "income": 1.0}, {"age": 0.75, "income": 0.25})
    {'age': 0.15, 'income': 0.125}
    >>> impacts({"age": 0.25}, {})
    {'age': 0.25}
    """
    if not dependence:
        return dict(effects)
    return {name: dependence.get(name, 0.0) * effect / (1 + effect) for name, effect in effects.items()}


def rank_causes(features: Mapping[str, Column], dependence: Mapping[str, float]) -> tuple[dict[str, Column], list[str]]:
    """Add ``effect`` and ``impact`` to the features; name those that drifted, by impact."""
    effects = {name: entry["impact"] for name, entry in features.items() if entry["status"] != "error"}
    weighed = impacts(effects, dependence)
    ranked = {
        name: entry if entry["status"] == "error" else entry | {"effect": effects[name], "impact": weighed[name]}
        for name, entry in features.items()
    }
    drifted = [name for name, entry in ranked.items() if entry["status"] == "drift"]
    return ranked, sorted(drifted, key=lambda name: (-weighed[name], -effects[name]))


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
