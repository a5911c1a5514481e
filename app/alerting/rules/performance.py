"""Rules on performance reports: realised, estimated, coverage, and segments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.alerting.rules.drift import (
    MAIN_METRIC,
    Verdicts,
    beyond_accepted,
    held,
    listed,
    ranked_causes,
    severities,
)
from app.figures.performance import METRIC
from app.reports.drift import DriftReport
from app.reports.performance import Metric, PerformanceReport, SegmentMetrics
from app.store.queries.alerts import Finding
from app.types import Severity, Task

COVERAGE_SHARE = 0.5
"""Part of the earlier label coverage below which labels are missing."""


def judge_performance(
    task: Task, body: PerformanceReport, drift: DriftReport | None, *, open_rules: Collection[str] = frozenset()
) -> Verdicts:
    """Judge realised and estimated performance.

    The main metric speaks for the others: ``metrics_drop`` fires where only they are degraded. An open alert of the
    main metric stays open, with the severity of the others, until they have recovered too.

    Args:
        drift: the body of the latest drift report, which names the causes.
        open_rules: rules whose alerts are open.
    """
    causes = ranked_causes(drift)
    return _realised(task, body, causes, open_rules) | _estimated(task, body, causes) | _unknown_class(task, body)


def _unknown_class(task: Task, body: PerformanceReport) -> Verdicts:
    """Judge whether each outcome is of a class that the model has.

    An outcome of another class can never be answered rightly.
    """
    realised = body.get("realised", {})
    found = realised.get("unknown_classes")
    if found is None or "unknown_class" in held(body):
        main = realised.get("metrics", {}).get(MAIN_METRIC[task])
        judged = task is not Task.REGRESSION and main is not None and main["status"] != "insufficient_data"
        return {"unknown_class": None} if judged else {}
    message = found["message"] + beyond_accepted(body, "unknown_class")
    return {"unknown_class": Finding(severities(task)["unknown_class"], found["share"], 0.0, message)}


def judge_coverage(severity: Severity, body: PerformanceReport, earlier: Sequence[PerformanceReport]) -> Verdicts:
    """Judge the share of rows with an outcome.

    It is compared with the best of ``earlier`` reports at the same hour.

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


def _coverage(body: PerformanceReport) -> float | None:
    realised = body.get("realised", {})
    return realised.get("coverage") if realised.get("mature") else None


def _realised(task: Task, body: PerformanceReport, causes: tuple[str, ...], open_rules: Collection[str]) -> Verdicts:
    main, metrics = MAIN_METRIC[task], body.get("realised", {}).get("metrics", {})
    judged = [name for name in metrics if metrics[name]["status"] != "insufficient_data"]
    known = held(body)
    degraded = [name for name in judged if metrics[name]["status"] == "degraded" and f"realised:{name}" not in known]
    if not judged:
        return {}
    drop, others = f"{main}_drop", "metrics_drop"
    verdicts: Verdicts = {drop: None, others: None} if main in judged else {others: None}
    if degraded:
        rule, name = (drop, main) if main in degraded else (others, degraded[0])
        metric = metrics[name]
        message = f"{degradation(name, metric)}, over {body['realised']['labelled']} labelled rows"
        message += _also(other for other in degraded if other != name)
        message += beyond_accepted(body, *(f"realised:{each}" for each in degraded))
        keeps_name = drop in open_rules and main in judged
        finding = Finding(severities(task)[rule], metric["value"], metric["limit"], message, causes)
        verdicts[drop if keeps_name else rule] = finding
    return verdicts


def _estimated(task: Task, body: PerformanceReport, causes: tuple[str, ...]) -> Verdicts:
    """Judge the estimate of every metric, and of every segment where all rows are well.

    Where outcomes say that something is degraded, the rules on outcomes speak.
    """
    found, realised = body.get("estimated", {}), body.get("realised", {}).get("metrics", {})
    metrics, main = found.get("metrics", {}), MAIN_METRIC[task]
    if all(metric["status"] == "insufficient_data" for metric in metrics.values()):
        return {}
    accepted = held(body)
    degraded = sorted(
        (name for name in metrics if metrics[name]["status"] == "degraded" and f"estimated:{name}" not in accepted),
        key=lambda name: name != main,
    )
    if any(metric["status"] == "degraded" for metric in realised.values()):
        return {"estimated_drop": None}
    if not degraded:
        return {"estimated_drop": _estimated_segment(body, causes)}
    name = degraded[0]
    metric, known = metrics[name], realised.get(name)
    message = f"estimated {degradation(name, metric)}, over {found['rows']} rows" + _also(degraded[1:])
    severity = severities(task)["estimated_drop"] if name == main else "medium"
    if known and known["status"] in ("ok", "improved"):
        severity = "medium"
        message += f"; the outcomes known so far contradict it: {name} {known['value']:.3g}"
    return {"estimated_drop": Finding(severity, metric["value"], metric["limit"], message, causes)}


def _estimated_segment(body: PerformanceReport, causes: tuple[str, ...]) -> Finding | None:
    """Report the first segment whose estimate is degraded."""
    accepted = held(body)
    for feature, values in body["estimated"].get("segments", {}).items():
        for value, entry in values.items():
            for name, metric in entry["metrics"].items():
                if metric["status"] == "degraded" and f"estimated:{feature}={value}:{name}" not in accepted:
                    message = (
                        f"where {feature} = {value}, estimated {degradation(name, metric)}, over {entry['rows']} rows"
                    )
                    return Finding("medium", metric["value"], metric["limit"], message, causes)
    return None


def degradation(name: str, metric: Metric) -> str:
    """Say in words how far a degraded metric of a report is from its limit."""
    limit, baseline = metric["limit"] or 0.0, metric["baseline"] or 0.0  # a degraded metric has both
    side = "above" if METRIC[name].better == "lower" or limit > baseline else "below"
    interval = f"[{_bound(metric['low'])}, {_bound(metric['high'])}]"
    limits = f"its limit {limit:.3g}, baseline {baseline:.3g}"
    value, last = metric["value"] or 0.0, metric.get("last_degraded_at")
    if last is None or (value > limit) == (side == "above"):
        return f"{name} {value:.3g} {interval} is {side} {limits}"
    # The window still has rows of the last look in which it was beyond its limit.
    return f"{name} {value:.3g} {interval} is within {limits}, and was {side} it until {last}"


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
    degraded: Mapping[str, Metric]


def judge_segments(task: Task, body: PerformanceReport, drift: DriftReport | None) -> Verdicts:
    """Judge each segment against the reference's rows of the same kind.

    While the main metric of all rows is degraded, the rule over it speaks for its segments.
    """
    judged = [
        (f"{name} = {value}", f"segment:{name}={value}", entry)
        for name, values in body.get("segments", {}).items()
        for value, entry in values.items()
        if entry["status"] != "insufficient_data"
    ]
    main = MAIN_METRIC[task]
    overall = body.get("realised", {}).get("metrics", {}).get(main)
    if not judged:
        return {}
    known = held(body)
    worse = [_Segment(title, entry["labelled"], _degraded(entry, key, known)) for title, key, entry in judged]
    worse = sorted((each for each in worse if each.degraded), key=lambda each: main not in each.degraded)
    if not worse or (overall and overall["status"] == "degraded"):
        return {"segment_drop": None}
    return {"segment_drop": _finding(task, worse, ranked_causes(drift))}


def _degraded(entry: SegmentMetrics, key: str, accepted: Collection[str]) -> Mapping[str, Metric]:
    metrics = entry["metrics"].items()
    return {
        name: metric for name, metric in metrics if metric["status"] == "degraded" and f"{key}:{name}" not in accepted
    }


def _finding(task: Task, worse: Sequence[_Segment], causes: tuple[str, ...]) -> Finding:
    """Report the largest segment that fails, by its main metric if that one fails."""
    worst, main = worse[0], MAIN_METRIC[task]
    name = main if main in worst.degraded else next(iter(worst.degraded))
    metric = worst.degraded[name]
    message = f"where {worst.title}, {degradation(name, metric)}, over {worst.labelled} labelled rows"
    others = [segment.title for segment in worse[1:]]
    if others:
        message += f"; degraded too: {listed(others)}"
    return Finding(severities(task)["segment_drop"], metric["value"], metric["limit"], message, causes)
