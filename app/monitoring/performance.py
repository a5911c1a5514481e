"""The performance report: whether the model is still right, by the outcomes that came back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from app.monitoring.baseline import Baseline
from app.monitoring.concept import concept_drift
from app.monitoring.details import business, by_class
from app.monitoring.grading import Degradation, Judge, overall
from app.monitoring.labels import is_mature, label_delays, score
from app.monitoring.reference import Reference
from app.monitoring.scored import Scored
from app.monitoring.segments import Segment, split
from app.store.judged import Judged
from app.store.labelled import Labelled
from app.types import Json, Micros, ModelSchema, to_rfc3339


def performance_report(
    schema: ModelSchema,
    reference: Reference | None,
    window: Labelled,
    limits: Degradation,
    *,
    now: Micros,
    stream: Sequence[Judged] = (),
    label_delay_s: float | None = None,
    previous: Json | None = None,
) -> Json:
    """Judge a window's outcomes against the baseline; the answer of ``GET /performance`` without id, model and time.

    A metric is degraded as :class:`Judge` says; the report is a function of its arguments alone. Without outcomes in
    the reference, or where it is in-sample, there is no verdict. A window is mature when its newest row is older than
    ``label_delay_s``, by default the 95th percentile of its own delays. ``stream`` are the latest judged answers in
    the order in which their truth came, and ``previous`` is the report of the look before.
    """
    errors: list[Json] = []
    baseline, before = Baseline(reference), _comparable(previous, reference)
    (rows, labelled), delays = score(schema, window, errors), label_delays(window)
    parts = split(schema, window.segments, baseline)
    start, end = (to_rfc3339(window.predicted_at[place]) for place in (0, -1)) if window.rows else (None, None)
    judge = Judge(limits, 1 + len(parts), start or "", end or "")
    graded = _grade(judge, rows, baseline, before, errors)
    segments = _segments(judge, rows, labelled, parts, before)
    return {
        "status": overall(chain(graded.values(), *(entry["metrics"].values() for entry in _each(segments)))),
        "message": _message(rows.rows, limits, baseline),
        "window": {"rows": window.rows, "sampled_from": window.sampled_from, "from": start, "to": end},
        "limits": {"alpha_per_look": limits.alpha, "degradation": limits.allowed, "correction": "bonferroni"},
        "baseline": {"rows": baseline.scored.rows if baseline.scored else 0, "sha256": _sha256(reference)},
        "realised": {
            "labelled": rows.rows,
            "coverage": rows.rows / window.rows if window.rows else None,
            "mature": is_mature(window, delays["p95"] if label_delay_s is None else label_delay_s, now),
            "label_delay_seconds": delays,
            "metrics": graded,
            **by_class(rows),
        },
        "estimated": {"rows": 0, "method": "none", "metrics": {}},
        "segments": segments,
        "business": business(schema, window),
        "concept_drift": concept_drift(schema, stream, baseline, before),
        "errors": errors,
    }


def is_same_look(window: Labelled, before: Json) -> bool:
    """Tell whether a report is of this very window with as many outcomes: asked again, a check says the same."""
    seen, came = before.get("window") or {}, sum(outcome is not None for outcome in window.outcomes)
    if not window.rows or "limits" not in before:
        return False
    labelled = (before.get("realised") or {}).get("labelled")
    return (window.rows, to_rfc3339(window.predicted_at[-1]), came) == (seen.get("rows"), seen.get("to"), labelled)


def _grade(judge: Judge, rows: Scored, baseline: Baseline, before: Json, errors: list[Json]) -> dict[str, Json]:
    found = rows.measure()
    undefined = [name for name, metric in found.items() if metric.value is None]
    errors += [{"metric": name, "reason": "undefined for the outcomes of this window"} for name in undefined]
    return judge.grade(found, baseline.measured, before.get("realised", {}).get("metrics", {}), rows=rows.rows)


def _segments(
    judge: Judge, rows: Scored, labelled: NDArray[np.bool_], parts: list[Segment], before: Json
) -> dict[str, dict[str, Json]]:
    """Grade each segment against the reference's rows of the same kind."""
    found: dict[str, dict[str, Json]] = {}
    for part in parts:
        own = rows.only(part.rows[labelled])
        was = before.get("segments", {}).get(part.name, {}).get(part.value, {}).get("metrics", {})
        metrics = judge.grade(own.measure(), part.baseline, was, rows=own.rows)
        entry = {"rows": int(part.rows.sum()), "labelled": own.rows, "status": overall(metrics.values())}
        found.setdefault(part.name, {})[part.value] = entry | {"metrics": metrics}
    return found


def _each(segments: Mapping[str, Mapping[str, Json]]) -> Iterator[Json]:
    return chain.from_iterable(values.values() for values in segments.values())


def _comparable(previous: Json | None, reference: Reference | None) -> Json:
    """Take the look before; one against another reference says nothing about this one."""
    found = previous or {}
    return found if found.get("baseline", {}).get("sha256") == _sha256(reference) else {}


def _sha256(reference: Reference | None) -> str | None:
    return None if reference is None else reference.sha256


def _message(labelled: int, limits: Degradation, baseline: Baseline) -> str | None:
    """Say what a verdict is missing."""
    if labelled < limits.min_labelled:
        return f"{labelled} rows have outcomes, {limits.min_labelled} are needed"
    return baseline.missing
