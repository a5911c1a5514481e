"""The rule over the segments of a performance report: the model fails for some, while the whole hides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.alerting.performance_rules import degradation
from app.alerting.rules import MAIN_METRIC, Verdicts, listed, ranked_causes, severities
from app.store.alerts import Finding
from app.types import Json, Task


@dataclass(frozen=True, slots=True)
class _Segment:
    """One value of a segment, ``channel = web``, and those of its metrics that are degraded."""

    title: str
    labelled: int
    degraded: Json


def judge_segments(task: Task, body: Json, drift: Json | None) -> Verdicts:
    """Judge each segment against the reference's rows of the same kind.

    While the main metric of all rows is degraded, the rule over it speaks for its segments.
    """
    judged = [
        (f"{name} = {value}", entry)
        for name, values in (body.get("segments") or {}).items()
        for value, entry in values.items()
        if entry["status"] != "insufficient_data"
    ]
    main = MAIN_METRIC[task]
    metrics: Json = (body.get("realised") or {}).get("metrics", {})
    if not judged:
        return {}
    worse = [_Segment(title, entry["labelled"], _degraded(entry)) for title, entry in judged]
    worse = sorted((each for each in worse if each.degraded), key=lambda each: main not in each.degraded)
    if not worse or metrics.get(main, {}).get("status") == "degraded":
        return {"segment_drop": None}
    return {"segment_drop": _finding(task, worse, ranked_causes(drift or {}))}


def _degraded(entry: Json) -> Json:
    return {name: metric for name, metric in entry["metrics"].items() if metric["status"] == "degraded"}


def _finding(task: Task, worse: Sequence[_Segment], causes: tuple[str, ...]) -> Finding:
    """Say it of the largest segment that fails; its main metric, where that fails, stands for the others."""
    worst, main = worse[0], MAIN_METRIC[task]
    name = main if main in worst.degraded else next(iter(worst.degraded))
    metric = worst.degraded[name]
    message = f"where {worst.title}, {degradation(name, metric)}, over {worst.labelled} labelled rows"
    others = [segment.title for segment in worse[1:]]
    if others:
        message += f"; degraded too: {listed(others)}"
    return Finding(severities(task)["segment_drop"], metric["value"], metric["limit"], message, causes)
