"""Concept drift: whether the model's errors, in the order in which the truth came, have changed, and since when."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.monitoring.adwin import Adwin
from app.monitoring.baseline import Baseline
from app.monitoring.encoding import encode_labels
from app.monitoring.scored import known
from app.monitoring.statistics import FloatArray
from app.store.judged import Judged
from app.types import Json, ModelSchema, Task, to_rfc3339

STREAM = 5_000
"""Outcomes at which the stream begins, and of which it never has less once they are there."""
LONGEST = 2 * STREAM
_FULL_SCALE = 0.99


def concept_drift(schema: ModelSchema, stream: Sequence[Judged], baseline: Baseline, before: Json) -> Json:
    """Run ADWIN over the errors of the latest outcomes, from where the look before began as long as that can be.

    An error is 0 or 1 where classes are answered, and in regression the absolute error as a share of the reference's
    99th percentile, at most 1. ``change_at`` is when the first outcome after the latest change came. A better stream
    changes too: ``direction`` tells. Nothing is kept but the report, so that restarts and replicas agree.
    """
    begun = _from(stream, before.get("concept_drift", {}).get("from"))
    part = stream[begun:]
    errors, chosen = _errors(schema, part, baseline)
    times = [each.recorded_at for each, there in zip(part, chosen, strict=True) if there]
    window = Adwin()
    cut = [window.add(error) for error in errors.tolist()]
    first = len(errors) - window.width
    changed = any(cut)
    earlier = float(errors[:first].mean()) if changed else None
    later = float(errors[first:].mean()) if len(errors) else None
    return {
        "method": "adwin",
        "change_at": to_rfc3339(times[first]) if changed else None,
        "direction": None if earlier is None or later is None else "worse" if later > earlier else "better",
        "error_before": earlier,
        "error_now": later,
        "rows": len(errors),
        "from": to_rfc3339(times[0]) if times else None,
    }


def _from(stream: Sequence[Judged], before: str | None) -> int:
    """Find the row at which the look before began; too far back, or unknown, the latest rows begin anew."""
    if before is not None and stream and to_rfc3339(stream[0].recorded_at) <= before:
        return bisect_left(stream, before, key=lambda judged: to_rfc3339(judged.recorded_at))
    return max(len(stream) - STREAM, 0)


def _errors(schema: ModelSchema, stream: Sequence[Judged], baseline: Baseline) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Compute the errors, between 0 and 1, and tell which rows they are of: an outcome that is no answer has none."""
    outcomes = encode_labels(schema, [judged.outcome for judged in stream])
    predictions = encode_labels(schema, [judged.prediction for judged in stream])
    chosen = known(schema, outcomes)
    if schema.task is not Task.REGRESSION:
        return (outcomes != predictions)[chosen].astype(np.float64), chosen
    errors = np.abs(outcomes - predictions)[chosen]
    usual = errors if baseline.scored is None else np.abs(baseline.scored.outcomes - baseline.scored.predictions)
    full = float(np.quantile(usual, _FULL_SCALE)) if len(usual) else 0.0
    return np.minimum(errors / (full or 1.0), 1.0), chosen
