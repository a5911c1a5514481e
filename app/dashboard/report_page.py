"""One report as a self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from app.dashboard.charts import bars, duration, listed, moment, number, period, scale, share, words
from app.figures.drift import DRIFT_STATISTICS, DriftStatistic
from app.figures.performance import PERFORMANCE_METRICS
from app.reports.drift import Column, DriftSegment, DriftSegments
from app.reports.performance import Metric, SegmentMetrics
from app.reports.service import ShownDrift, ShownFailure, ShownPerformance, ShownReport, ShownService

_RANK = {"drift": 0, "error": 1, "withheld": 2}
_FAILED = "The check failed"


def drift_view(report: ShownDrift | ShownFailure) -> dict[str, Any]:
    """The level, headline and entries of a drift report; the largest impact first."""
    if report["status"] == "error":
        return {"level": "bad", "headline": _FAILED, "entries": []}
    entries = _entries(report)
    drifted = [name for name, entry in entries if entry.get("status") == "drift"]
    return {
        "level": _level(report),
        "headline": _headline(report, drifted),
        "since": min(filter(None, (_since(entry) for _, entry in entries)), default=None),
        "entries": entries,
        "findings": report.get("data_quality", {}).get("findings", []),
        "segments": _segments(report.get("segments", {})),
        "joint": report.get("multivariate", {}),
        "largest": max((_impact(entry) for _, entry in entries), default=0.0) or 1.0,
    }


def _since(entry: Column) -> str | None:
    return entry.get("since") if entry["status"] in ("stable", "drift") else None


def _impact(entry: Column) -> float:
    return 0.0 if entry["status"] == "error" else entry.get("impact") or 0.0


def _level(report: ShownDrift) -> str:
    if report["status"] == "drift":
        return "bad"
    if report.get("data_quality", {}).get("findings"):
        return "warn"
    return "ok" if report["status"] == "stable" else "idle"


def _headline(report: ShownDrift, drifted: list[str]) -> str:
    match report["status"]:
        case "drift" if drifted:
            return f"{listed(drifted)} drifted"
        case "drift":
            return "The features drifted together: none of them shows it alone"
        case "stable" if report.get("unjudged"):
            return f"No drift in the features with a verdict; {len(report['unjudged'])} have none"
        case "stable":
            return "No drift"
        case other:
            return words(other).capitalize()


def _entries(report: ShownDrift) -> list[tuple[str, Column]]:
    """Sort features before answers, drifted ones first, each group by impact."""
    features = report.get("features", {})
    entries = list(features.items())
    prediction = report.get("prediction")
    if prediction is not None:
        entries.append((report.get("target") or "the prediction", prediction))
    probability = prediction.get("probability") if prediction else None
    if probability is not None:
        entries.append(("the probability", probability))
    ranked = sorted(entries, key=lambda item: -_impact(item[1]))
    return sorted(ranked, key=lambda item: (_RANK.get(item[1]["status"], 3), item[0] not in features))


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a column as the page shows it: its words, and in ``about`` what it means."""

    title: str
    value: str
    note: str
    about: str


def statistics(entry: Mapping[str, Any], alpha: float | None) -> list[Figure]:
    """Show every drift statistic of a column, beside its noise floor or earlier value.

    >>> [(each.title, each.value, each.note) for each in statistics({"psi": 0.31, "psi_noise_floor": 0.012}, None)]
    [('PSI', '0.31', 'noise 0.012')]
    """
    found = ((each, each.value_in(entry)) for each in DRIFT_STATISTICS)
    return [
        Figure(each.title, _shown(each, value), _note(each, entry, alpha), each.description)
        for each, value in found
        if value is not None
    ]


def _shown(statistic: DriftStatistic, value: float) -> str:
    return share(value) if statistic.unit == "share of rows" else number(value)


def _note(statistic: DriftStatistic, entry: Mapping[str, Any], alpha: float | None) -> str:
    """Say what a statistic is held against."""
    if statistic.name == "adjusted_p_value":
        return f"limit {number(alpha)}"
    if statistic.place == ("current",):
        before = (entry.get("reference") or {}).get(statistic.name)
        return f"was {number(before) if before is None else _shown(statistic, before)}"
    unit = [statistic.unit] if statistic.unit == "sd" else []
    floor = entry.get(statistic.noise_floor or "")
    return ", ".join(unit + ([] if floor is None else [f"noise {_shown(statistic, floor)}"]))


def _segments(segments: Mapping[str, DriftSegments]) -> list[tuple[str, DriftSegment]]:
    """Every segment's values as ``channel = web``, with what drifted in them."""
    return [(f"{name} = {value}", entry) for name, each in segments.items() for value, entry in each["values"].items()]


_LEVELS = {"degraded": "bad", "ok": "ok", "improved": "ok"}
_HEADLINES = {"ok": "Still right", "improved": "Better than the baseline"}


def performance_view(report: ShownPerformance | ShownFailure) -> dict[str, Any]:
    """The level, headline and tables of metrics of a performance report."""
    if report["status"] == "error":
        return {"level": "bad", "headline": _FAILED}
    realised = report.get("realised", {})
    return {
        "level": _LEVELS.get(report["status"], "idle"),
        "headline": _performance_headline(report["status"], realised.get("metrics", {})),
        "about": {metric.name: metric.description for metric in PERFORMANCE_METRICS},
        "realised": realised,
        "estimated": report.get("estimated", {}),
        "segments": _performance_segments(report.get("segments", {})),
    }


def _performance_headline(status: str, metrics: Mapping[str, Metric]) -> str:
    degraded = [name for name, metric in metrics.items() if metric["status"] == "degraded"]
    if not degraded:
        return _HEADLINES.get(status) or words(status).capitalize()
    worst = metrics[degraded[0]]
    figures = f"{number(worst['value'])}, limit {number(worst['limit'])}"
    rest = f"; also {words(listed(degraded[1:]))}" if degraded[1:] else ""
    return f"{words(degraded[0])} has degraded: {figures}{rest}"


def _performance_segments(segments: Mapping[str, Mapping[str, SegmentMetrics]]) -> list[tuple[str, SegmentMetrics]]:
    """Every segment's values as ``channel = web``, with their metrics."""
    return [
        (f"{name} = {value}", entry)
        for name, values in segments.items()
        for value, entry in values.items()
        if entry.get("metrics")
    ]


def service_view(report: ShownService) -> dict[str, Any]:
    """The level and headline of a service report: the worst that it says."""
    headline = _service_headline(report)
    return {"level": "ok" if headline is None else "bad", "headline": headline or "The service is well"}


def _service_headline(report: ShownService) -> str | None:
    if report["status"] == "ok":
        return None
    outage, back, service = report.get("outage"), report.get("rolled_back"), report.get("service")
    overdue = [kind for kind, check in report.get("checks", {}).items() if check["overdue_s"] > check["limit_s"]]
    if outage:
        return f"The store was away for {duration(outage['seconds'])}"
    if overdue:
        return f"The {overdue[0]} check does not run"
    if back:
        return f"Version {back['version']} was rolled back to {back['to']}"
    failed = f"{share(service['error_rate'] if service else None)} of the rows failed"
    return f"{failed}; 99 % of the answers came within {number(service['p99_seconds'] if service else None)} s"


CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_FILTERS = (
    number,
    share,
    duration,
    period,
    moment,
    words,
    listed,
    bars,
    scale,
    statistics,
)


def render_report(report: ShownReport) -> str:
    """Render a report as ``GET /reports/{id}`` gives it.

    A report of a failed check, or one without a verdict, is a page as well: it says what is missing.
    """
    kind = report["kind"]
    template = _templates().get_template(f"report_{kind}.html")
    return template.render(report=report, policy=CONTENT_SECURITY_POLICY, **_view(kind, report))


def _view(kind: str, report: ShownReport) -> dict[str, Any]:
    if kind == "drift":
        return drift_view(cast("ShownDrift | ShownFailure", report))
    if kind == "performance":
        return performance_view(cast("ShownPerformance | ShownFailure", report))
    return service_view(cast("ShownService", report))


@lru_cache(maxsize=1)
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "report"),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {each.__name__: each for each in _FILTERS}
    return made
