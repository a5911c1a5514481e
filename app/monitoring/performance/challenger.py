"""A shadow beside the version that answered: the same rows, the same outcomes, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.scoring import known
from app.monitoring.reference.encoding import encode_labels
from app.reports.performance import Interval, Versus
from app.statistics import FloatArray
from app.statistics.intervals import Mean
from app.store.queries.shadow_predictions import Pair
from app.types import Label, ModelSchema, Task

CONFIDENCE = 0.95


def beside(schema: ModelSchema, answers: Mapping[str, Sequence[Pair]]) -> dict[str, Versus]:
    """Compare a shadow with each version whose rows it repeated.

    ``agreement`` is the share of rows with the same label, in regression ``mean_difference`` that of the numbers, in
    the unit of the target. ``advantage`` is how much better the shadow is on the rows whose outcome is known: the mean
    over rows of the shadow's score less the champion's, where a score is 1 for a right label and 0 for a wrong one, in
    regression the negative absolute error. Its interval is of the paired differences, which is much narrower than two
    intervals side by side, since both answered the same rows: Student (1908), doi:10.1093/biomet/6.1.1, with the
    skewness of the differences transformed away (see :class:`app.statistics.intervals.Mean`).

    >>> schema = ModelSchema("m", "2", Task.BINARY, (), classes=(0, 1), positive=1)
    >>> pairs = [Pair(1, 1, 1), Pair(1, 0, 1), Pair(0, 0, None), Pair(0, 1, 0)] * 25
    >>> found = beside(schema, {"1": pairs})["1"]
    >>> found["agreement"], found["labelled"], {name: round(each, 2) for name, each in found["advantage"].items()}
    (0.5, 75, {'value': 0.67, 'low': 0.55, 'high': 0.77})
    """
    return {version: _compare(schema, pairs) for version, pairs in answers.items()}


def _compare(schema: ModelSchema, pairs: Sequence[Pair]) -> Versus:
    shadow, champion, outcome = (_encoded(schema, labels) for labels in zip(*pairs, strict=True))
    numbers = schema.task is Task.REGRESSION
    labelled = known(schema, outcome)
    gains = _gains(shadow[labelled], champion[labelled], outcome[labelled], numbers=numbers)
    return {
        "rows": len(pairs),
        "agreement": None if numbers else float((shadow == champion).mean()),
        "mean_difference": float(np.abs(shadow - champion).mean()) if numbers else None,
        "labelled": len(gains),
        "advantage": _mean(gains) if len(gains) > 1 else None,
    }


def _gains(shadow: NDArray[Any], champion: NDArray[Any], outcome: NDArray[Any], *, numbers: bool) -> FloatArray:
    """Give how much better each answer of the shadow is."""
    scores = [-np.abs(each - outcome) if numbers else (each == outcome) for each in (shadow, champion)]
    return np.asarray(scores[0], dtype=np.float64) - np.asarray(scores[1], dtype=np.float64)


def _mean(gains: FloatArray) -> Interval:
    mean = Mean.of(gains)
    low, high = mean.bounds(CONFIDENCE)
    return {"value": mean.value, "low": low, "high": high}


def _encoded(schema: ModelSchema, labels: Sequence[Label | None]) -> NDArray[Any]:
    return encode_labels(schema, labels)
