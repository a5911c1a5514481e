"""Rules on performance reports: realised, estimated, coverage, and segments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.alerting.rules.drift import MAIN_METRIC, Verdicts, listed, ranked_causes, severities
from app.figures.performance import METRIC
from app.store.queries.alerts import Finding
from app.types import Json, Severity, Task

COVERAGE_SHARE = 0.5
"""Part of the earlier label coverage below which labels are missing."""


def judge_performance(task: Task, body: Json, drift: Json | None) -> Verdicts:
    """Judge realised and estimated performance; ``drift`` is the body of the latest drift report: it names the causes.

    The main metric speaks for the others: ``metrics_drop`` fires where only they are degraded.
    """
    causes = ranked_causes(drift or {})
    return _realised(task, body, causes) | _estimated(task, body, causes)


def judge_coverage(severity: Severity, body: Json, earlier: Sequence[Json]) -> Verdicts:
    """Judge how many rows have their outcome, against the best of ``earlier`` reports' bodies at the same hour.

    Only windows whose labels had time to come are compared, so that a slow label is not a missing one.
    """
    coverage = _coverage(body)
    known = [found for found in map(_coverage, earlier) if found]
    if coverage is None or not known:
        return {}
    usual, limit = max(known), COVERAGE_SHARE * max(known)
    if coverage >= limit:
        return {"label_coverage": None}
    message = f"{coverage:.1%} of the rows have their outcome; at the same hour before, {usual:.1%} had"
    return {"label_coverage": Finding(severity, coverage, limit, message)}


def _coverage(body: Json) -> float | None:
    realised: Json = body.get("realised") or {}
    found: float | None = realised.get("coverage") if realised.get("mature") else None
    return found


def _realised(task: Task, body: Json, causes: tuple[str, ...]) -> Verdicts:
    main, metrics = MAIN_METRIC[task], _metrics(body, "realised")
    judged = [name for name in metrics if metrics[name]["status"] != "insufficient_data"]
    degraded = [name for name in judged if metrics[name]["status"] == "degraded"]
    if main not in judged:
        return {}
    drop, others = f"{main}_drop", "metrics_drop"
    verdicts: Verdicts = {drop: None, others: None}
    if degraded:
        rule, name = (drop, main) if main in degraded else (others, degraded[0])
        metric = metrics[name]
        message = f"{degradation(name, metric)}, over {body['realised']['labelled']} labelled rows"
        message += _also(other for other in degraded if other != name)
        verdicts[rule] = Finding(severities(task)[rule], metric["value"], metric["limit"], message, causes)
    return verdicts


def _estimated(task: Task, body: Json, causes: tuple[str, ...]) -> Verdicts:
    """Judge the estimate of the main metric, unless its outcomes say the same: then the rule over these speaks."""
    main = MAIN_METRIC[task]
    metric = _metrics(body, "estimated").get(main, {"status": "insufficient_data"})
    known = _metrics(body, "realised").get(main, {}).get("status")
    if metric["status"] == "insufficient_data":
        return {}
    if metric["status"] != "degraded" or known == "degraded":
        return {"estimated_drop": None}
    message = f"estimated {degradation(main, metric)}, over {body['estimated']['rows']} rows"
    severity = severities(task)["estimated_drop"]
    if known in ("ok", "improved"):
        severity = "medium"
        message += f"; the outcomes known so far contradict it: {main} {body['realised']['metrics'][main]['value']:.3g}"
    return {"estimated_drop": Finding(severity, metric["value"], metric["limit"], message, causes)}


def _metrics(body: Json, basis: str) -> Json:
    found: Json = (body.get(basis) or {}).get("metrics", {})
    return found


def degradation(name: str, metric: Json) -> str:
    """Say in words how far a degraded metric of a report is from its limit."""
    side = "above" if METRIC[name].better == "lower" or metric["limit"] > metric["baseline"] else "below"
    interval = f"[{_bound(metric['low'])}, {_bound(metric['high'])}]"
    limits = f"its limit {metric['limit']:.3g}, baseline {metric['baseline']:.3g}"
    return f"{name} {metric['value']:.3g} {interval} is {side} {limits}"


def _bound(value: float | None) -> str:
    """A bound of an interval; null is one that nothing is known of."""
    return "?" if value is None else f"{value:.3g}"


def _also(others: Iterable[str]) -> str:
    listed = ", ".join(others)
    return f"; degraded too: {listed}" if listed else ""


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
