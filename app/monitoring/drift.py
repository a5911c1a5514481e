"""The drift report: which features, and which answers of the model, no longer look like the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from app.monitoring.columns import ReferenceColumn, score_of
from app.monitoring.comparison import Comparison, compare
from app.monitoring.encoding import encode, encode_labels, encode_probabilities
from app.monitoring.limits import Limits
from app.monitoring.quality import data_quality
from app.monitoring.reference import Reference
from app.monitoring.verdict import Look, judge, withhold
from app.store.windows import Window
from app.types import Json, ModelSchema, to_rfc3339

_IN_SAMPLE = "the reference is data that the model was fitted on"


def drift_report(
    schema: ModelSchema, reference: Reference | None, window: Window, limits: Limits, previous: Json | None
) -> Json:
    """Compare a window with the reference; the answer of ``GET /drift`` without its id, model and time.

    A function of its arguments alone. ``previous`` is the report of the look before, or None: a drift that it holds
    stays open until the window has none of the rows left that last showed it. A column that cannot be compared is an
    entry in ``errors``; the others go on.
    """
    report = _empty_report(reference, window, limits)
    if window.rows < limits.min_rows:
        message = f"the window has {window.rows} rows, {limits.min_rows} are needed"
        return report | {"status": "insufficient_data", "message": message}
    columns = encode(schema, window.features)
    report["data_quality"] = data_quality(schema, reference, columns, limits)
    if reference is None:
        return report | {"status": "no_reference", "message": "the model was bundled without reference data"}
    return report | _verdicts(reference, columns + _answers(schema, window), window, limits, previous)


def _empty_report(reference: Reference | None, window: Window, limits: Limits) -> Json:
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
        },
        "features": {},
        "prediction": None,
        "multivariate": {"test": "domain-classifier", "auc": None, "p_value": None, "status": "not_run"},
        "data_quality": {"status": "insufficient_data", "findings": []},
        "previous_window": None,
        "errors": [],
    }


def _about(reference: Reference) -> Json:
    return {
        "rows": reference.rows,
        "created_at": reference.created_at,
        "sha256": reference.sha256,
        "in_sample": reference.in_sample,
    }


def _verdicts(
    reference: Reference, arrays: Sequence[NDArray[Any]], window: Window, limits: Limits, previous: Json | None
) -> Json:
    """Judge all that is watched as one family, without the answers where the model was fitted on the reference."""
    errors: list[Json] = []
    watched = [*reference.features, *reference.answers][: len(arrays)]
    found = [_compare(column, array, errors) for column, array in zip(watched, arrays, strict=False)]
    before = _entries_before(previous, reference, len(watched))
    look = Look(limits, to_rfc3339(window.predicted_at[0]), to_rfc3339(window.predicted_at[-1]))
    family = len(reference.features) if reference.in_sample else len(watched)
    verdicts = judge(look, found[:family], before[:family]) + withhold(found[family:], _IN_SAMPLE)
    entries = [{"type": column.subject.type} | verdict for column, verdict in zip(watched, verdicts, strict=True)]
    features = dict(zip(reference.schema.feature_names, entries, strict=False))
    prediction, probability = [*entries[len(features) :], None][:2]
    drifted = [name for name, entry in features.items() if entry["status"] == "drift"]
    judged = sum(entry["status"] != "error" for entry in features.values())
    return {
        "status": "drift" if any(entry["status"] == "drift" for entry in entries) else "stable",
        "drift_share": len(drifted) / judged if judged else None,
        "drifted_features": drifted,
        "features": features,
        "prediction": {**(prediction or {}), "probability": probability},
        "errors": errors,
    }


def _answers(schema: ModelSchema, window: Window) -> list[NDArray[Any]]:
    """Encode the window's predictions and, where the model gave any, the probability that is watched."""
    predictions = encode_labels(schema, window.predictions)
    probabilities = encode_probabilities(schema, window.probabilities)
    return [predictions] if probabilities is None else [predictions, score_of(schema, probabilities)]


def _compare(column: ReferenceColumn, array: NDArray[Any], errors: list[Json]) -> Comparison | None:
    try:
        found = compare(column, array)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one column, the others are still compared
        errors.append({"feature": column.subject.name, "reason": f"not compared: {type(error).__name__}: {error}"})
        return None
    if found.note is not None:
        errors.append({"feature": column.subject.name, "reason": found.note})
    return found


def _entries_before(previous: Json | None, reference: Reference, count: int) -> list[Json | None]:
    """Look up the previous report's entries; one made against another reference says nothing about this one."""
    if previous is None or (previous.get("reference") or {}).get("sha256") != reference.sha256:
        return [None] * count
    features = [previous["features"].get(name) for name in reference.schema.feature_names]
    prediction = previous["prediction"]
    return [*features, prediction, (prediction or {}).get("probability")][:count]
