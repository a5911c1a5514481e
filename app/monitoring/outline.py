"""The drift report before anything is found: all of its fields, the limits, and whether they hold for the reference."""

from __future__ import annotations

from app.monitoring.limits import SHAPE_SHARE, Limits
from app.monitoring.multivariate import not_run
from app.monitoring.reference import Reference
from app.store.windows import Window
from app.types import Json, to_rfc3339

_ROWS_PER_WINDOW_ROW = 10
"""Reference rows per row of the window from which an unlucky reference alarms about as rarely as the budget says."""


def outline(reference: Reference | None, window: Window, limits: Limits) -> Json:
    """Give a drift report that says what is looked at and by which limits, and has found nothing yet."""
    times = window.predicted_at
    return {
        "window": {
            "rows": window.rows,
            "hours": window.hours,
            "sampled_from": window.sampled_from,
            "from": to_rfc3339(times[0]) if times else None,
            "to": to_rfc3339(times[-1]) if times else None,
            "effective_rows": window.rows,
        },
        "reference": None if reference is None else _about(reference),
        "drift_share": None,
        "drifted_features": [],
        "limits": {
            "false_alarm_every": limits.false_alarm_every,
            "alpha_per_look": limits.alpha,
            "material_psi": limits.material_psi,
            "correction": "benjamini-hochberg",
            "parts_of_alpha": {"shape": SHAPE_SHARE, "single_shares": 1 - SHAPE_SHARE},
            "min_rows": limits.min_rows,
            **_calibration(reference, window),
        },
        "features": {},
        "prediction": None,
        "multivariate": not_run("there is nothing to compare with"),
        "seasonal": {"status": "none", "reason": "no seasonal reference"},
        "data_quality": {"status": "insufficient_data", "findings": []},
        "previous_window": None,
        "segments": {},
        "errors": [],
    }


def _about(reference: Reference) -> Json:
    return {
        "rows": reference.rows,
        "created_at": reference.created_at,
        "sha256": reference.sha256,
        "in_sample": reference.in_sample,
    }


def _calibration(reference: Reference | None, window: Window) -> Json:
    """Say whether the promise of ``false_alarm_every`` holds for this reference, not only for an average one."""
    needed = _ROWS_PER_WINDOW_ROW * window.rows
    if reference is None or reference.rows >= needed:
        return {"calibrated": reference is not None, "reason": None if reference else "no reference"}
    reason = f"the reference is too small: {reference.rows} rows, {needed} are needed for windows of {window.rows}"
    return {"calibrated": False, "reason": reason}
