"""The estimated block of the performance report: how right the model probably is, before the outcomes come."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from app.monitoring.baseline import Baseline
from app.monitoring.estimators import estimator_of
from app.monitoring.grading import Degradation, Judge, overall
from app.monitoring.reference import Reference
from app.monitoring.sample import Sample, reference_sample, window_sample
from app.monitoring.trackrecord import comparison, track_record
from app.monitoring.weighting import Shift, measure_shift
from app.store.windows import Window
from app.types import Json, ModelSchema, Task, to_rfc3339

MOST_ROWS = 10_000
"""Rows of a window that an estimate looks at."""
_UNSEEN_MATTERS = 0.05
_FEWEST_EFFECTIVE = 100
_GROUPS = 2
"""Realised and estimated performance share the false-alarm probability of a look."""


def estimated(
    schema: ModelSchema,
    reference: Reference,
    latest: Window,
    mature: Window,
    limits: Degradation,
    *,
    previous: Json | None = None,
) -> Json:
    """Estimate the metrics of the ``latest`` rows, and compare estimates of ``mature`` rows with their outcomes.

    A function of its arguments alone; ``previous`` is the report of the look before. Where nothing can be estimated,
    ``reason`` says why.
    """
    try:
        known, window = reference_sample(reference), window_sample(schema, latest)
        if (reason := _missing(reference, known, window, limits)) is not None or known is None:
            return _block(reason)
        start, end = to_rfc3339(latest.predicted_at[0]), to_rfc3339(latest.predicted_at[-1])
        judge, before = Judge(limits, _GROUPS, start, end), _before(previous, reference)
        shift = measure_shift(known.inputs, window.inputs)
        estimator = estimator_of(known, window, shift)
        graded = judge.grade(estimator.measured(), Baseline(reference).measured, before, rows=window.rows)
        found = _found(known, window, shift, estimator.method, graded)
        return found | _proved(known, window_sample(schema, mature).labelled, limits)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the estimate, realised performance is reported
        return _block(f"not estimated: {type(error).__name__}: {error}")


def _found(known: Sample, window: Sample, shift: Shift, method: str, graded: Mapping[str, Json]) -> Json:
    unseen = float((shift.unseen | window.strange).mean())
    return _block(None) | {
        "rows": window.rows,
        "method": method,
        "status": overall(graded.values()),
        "metrics": graded,
        "shift": {
            "auc": shift.auc,
            "shifted": shift.shifted,
            "reference_rows": known.rows,
            "effective_reference_rows": shift.effective_rows,
        },
        "unseen_region_share": unseen,
        "caveats": _caveats(shift, unseen),
    }


def _missing(reference: Reference, known: Sample | None, window: Sample, limits: Degradation) -> str | None:
    """Say why nothing can be estimated; None where something can."""
    schema = reference.schema
    if known is None or not known.rows:
        return "the reference has no outcomes to learn from"
    if reference.in_sample:
        return "the reference is data that the model was fitted on"
    if schema.task is not Task.REGRESSION:
        if known.answers.probabilities is None or (window.rows and window.answers.probabilities is None):
            return "the model gives no probabilities"
        if len(np.unique(known.answers.outcomes)) < len(schema.classes):
            return "the reference has no outcomes of some class"
    for name, sample in (("reference", known), ("window", window)):
        if sample.rows < limits.min_labelled:
            return f"the {name} has {sample.rows} rows to learn from, {limits.min_labelled} are needed"
    return None


def _proved(reference: Sample, labelled: Sample, limits: Degradation) -> Json:
    """Compare the estimate with the truth over rows whose outcomes have come."""
    if labelled.rows < limits.min_labelled:
        return {"comparison": None, "track_record": None}
    estimator = estimator_of(reference, labelled, measure_shift(reference.inputs, labelled.inputs))
    return {
        "comparison": comparison(estimator.measured(), labelled.answers),
        "track_record": track_record(estimator.values, labelled.answers),
    }


def _caveats(shift: Shift, unseen: float) -> list[str]:
    """Say what the estimate cannot know."""
    found = ["a change in what the outcome of the same input is (concept drift) cannot be seen without outcomes"]
    if unseen >= _UNSEEN_MATTERS:
        found.append(f"{unseen:.0%} of the rows lie where the reference has almost none: there the estimate is a guess")
    if shift.shifted and shift.effective_rows < _FEWEST_EFFECTIVE:
        found.append(f"the reference rows that look like the window are worth {shift.effective_rows:.0f} rows")
    return found


def _before(previous: Json | None, reference: Reference) -> Mapping[str, Json]:
    """Look up the entries of the look before; one against another reference says nothing about this one."""
    before = previous or {}
    same = before.get("baseline", {}).get("sha256") == reference.sha256
    found: Mapping[str, Json] = (before.get("estimated") or {}).get("metrics", {}) if same else {}
    return found


def _block(reason: str | None) -> Json:
    return {
        "rows": 0,
        "method": None,
        "reason": reason,
        "status": "insufficient_data",
        "metrics": {},
        "shift": None,
        "unseen_region_share": None,
        "caveats": [],
        "comparison": None,
        "track_record": None,
    }
