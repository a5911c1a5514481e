"""The outcomes of a window: which came, what they say, and how long they took."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.monitoring.encoding import encode_labels, encode_probabilities
from app.monitoring.scored import Scored, known
from app.store.labelled import Labelled
from app.types import SECOND, Json, Micros, ModelSchema


def score(schema: ModelSchema, window: Labelled, errors: list[Json]) -> tuple[Scored, NDArray[np.bool_]]:
    """Encode the rows whose outcome is known, and tell which they are; what is left out is listed in ``errors``."""
    outcomes, predictions = encode_labels(schema, window.outcomes), encode_labels(schema, window.predictions)
    chosen = known(schema, outcomes)
    given = np.array([outcome is not None for outcome in window.outcomes], dtype=np.bool_)
    if strange := int((given & ~chosen).sum()):
        errors.append({"metric": None, "reason": f"{strange} outcomes are no answer that this model can give"})
    probabilities = encode_probabilities(schema, window.probabilities)
    if probabilities is not None and np.isnan(probabilities[chosen]).any():
        errors.append({"metric": None, "reason": "some rows have no probabilities: their metrics are left out"})
        probabilities = None
    return Scored(schema, outcomes, predictions, probabilities).only(chosen), chosen


def label_delays(window: Labelled) -> dict[str, float | None]:
    """Measure the seconds from prediction to outcome that half, and 95 %, of the outcomes so far were faster than."""
    came = np.array([-1 if recorded is None else recorded for recorded in window.recorded_at], dtype=np.int64)
    if not (came >= 0).any():
        return {"p50": None, "p95": None}
    delays = (came - np.array(window.predicted_at, dtype=np.int64))[came >= 0] / SECOND
    middle, late = np.quantile(delays, (0.5, 0.95)).tolist()
    return {"p50": middle, "p95": late}


def is_mature(window: Labelled, delay_s: float | None, now: Micros) -> bool:
    """Tell whether even the newest row has had the time that outcomes take: else fast labels speak for all."""
    return delay_s is not None and window.rows > 0 and now - window.predicted_at[-1] >= delay_s * SECOND
