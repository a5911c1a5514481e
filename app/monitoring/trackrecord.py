"""How good the estimates were: beside the truth of the same rows, once it has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from app.monitoring.columns import finite
from app.monitoring.grading import SHOWN_CONFIDENCE
from app.monitoring.metrics import metrics
from app.monitoring.scored import Measured, Scored
from app.types import Json

_CHUNKS, _FEWEST = 10, 100


def comparison(estimates: Mapping[str, Measured], answers: Scored) -> Json:
    """Put each estimate beside the realised metric of the same rows; ``within`` tells whether its band held it."""
    realised = _realised(answers)
    return {
        "rows": answers.rows,
        "metrics": {
            name: _beside(each, realised[name]) for name, each in estimates.items() if realised.get(name) is not None
        },
    }


def track_record(estimate: Callable[[NDArray[np.bool_]], Mapping[str, float]], answers: Scored) -> Json | None:
    """Average the distance of estimate and truth over up to ten runs of rows in time order, of a hundred rows or more.

    None where there are too few for two. One window has one truth; its parts show how far an estimate is usually off.
    Part of the distance is chance in the truth itself, which no estimate can foresee.
    """
    chunks = min(answers.rows // _FEWEST, _CHUNKS)
    if chunks < 2:  # noqa: PLR2004 - one is the comparison itself
        return None
    place = np.arange(answers.rows) * chunks // answers.rows
    distances: dict[str, list[float]] = {}
    for chunk in range(chunks):
        realised = _realised(answers.only(place == chunk))
        for name, value in estimate(place == chunk).items():
            truth = realised.get(name)
            if truth is not None and np.isfinite(value):
                distances.setdefault(name, []).append(abs(value - truth))
    return {
        "chunks": chunks,
        "rows_per_chunk": answers.rows // chunks,
        "mean_absolute_error": {name: float(np.mean(found)) for name, found in distances.items()},
    }


def _realised(answers: Scored) -> Mapping[str, float | None]:
    return metrics(answers.schema, answers.outcomes, answers.predictions, answers.probabilities)


def _beside(estimate: Measured, realised: float | None) -> Json:
    low, high = (None, None) if estimate.interval is None else estimate.interval.bounds(SHOWN_CONFIDENCE)
    entry = {"estimated": estimate.value, "low": low, "high": high, "realised": realised}
    if estimate.value is None or realised is None or low is None or high is None:
        return entry | {"difference": None, "within": None}
    return entry | {"difference": finite(estimate.value - realised), "within": low <= realised <= high}
