"""One report as a self-contained HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from app.dashboard import formatting
from app.dashboard.charts import bars, scale
from app.dashboard.formatting import duration, listed, number, share, words
from app.figures.drift import DRIFT_STATISTICS, DriftStatistic
from app.figures.performance import PERFORMANCE_METRICS
from app.types import Json

_RANK = {"drift": 0, "error": 1, "withheld": 2}


def drift_view(report: Json) -> dict[str, Any]:
    """The level, headline and entries of a drift report; the largest impact first."""
    entries = _entries(report)
    drifted = [name for name, entry in entries if entry.get("status") == "drift"]
    return {
        "level": _level(report),
        "headline": _headline(report, drifted),
        "since": min((entry["since"] for _, entry in entries if entry.get("since")), default=None),
        "entries": entries,
        "findings": (report.get("data_quality") or {}).get("findings", []),
        "segments": _segments(report.get("segments") or {}),
        "joint": report.get("multivariate") or {},
        "largest": max((entry.get("impact") or 0.0 for _, entry in entries), default=0.0) or 1.0,
    }


def _level(report: Json) -> str:
    if report["status"] in ("drift", "error"):
        return "bad"
    if (report.get("data_quality") or {}).get("findings"):
        return "warn"
    return "ok" if report["status"] == "stable" else "idle"


def _headline(report: Json, drifted: list[str]) -> str:
    match report["status"]:
        case "drift" if drifted:
            return f"{listed(drifted)} drifted"
        case "drift":
            return "The features drifted together: none of them shows it alone"
        case "stable":
            return "No drift"
        case "error":
            return "The check failed"
        case other:
            return words(other).capitalize()


def _entries(report: Json) -> list[tuple[str, Json]]:
    """Features and answers, those that drifted first, each group by impact, and causes before answers."""
    features = report.get("features") or {}
    entries = list(features.items())
    prediction = report.get("prediction") or {}
    if "status" in prediction:
        entries.append((report.get("target") or "the prediction", prediction))
    if prediction.get("probability"):
        entries.append(("the probability", prediction["probability"]))
    ranked = sorted(entries, key=lambda item: -(item[1].get("impact") or 0.0))
    return sorted(ranked, key=lambda item: (_RANK.get(item[1]["status"], 3), item[0] not in features))


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a column as the page shows it: its words, and in ``about`` what it means."""

    title: str
    value: str
    note: str
    about: str


def statistics(entry: Json, alpha: float | None) -> list[Figure]:
    """Show every drift statistic that a column's entry has, beside its noise floor or its earlier value.

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


def _note(statistic: DriftStatistic, entry: Json, alpha: float | None) -> str:
    """Say what a statistic is held against."""
    if statistic.name == "adjusted_p_value":
        return f"limit {number(alpha)}"
    if statistic.place == ("current",):
        before = (entry.get("reference") or {}).get(statistic.name)
        return f"was {number(before) if before is None else _shown(statistic, before)}"
    unit = [statistic.unit] if statistic.unit == "sd" else []
    floor = entry.get(statistic.noise_floor or "")
    return ", ".join(unit + ([] if floor is None else [f"noise {_shown(statistic, floor)}"]))


def _segments(segments: Json) -> list[tuple[str, Json]]:
    """Every segment's values as ``channel = web``, with what drifted in them."""
    return [(f"{name} = {value}", entry) for name, each in segments.items() for value, entry in each["values"].items()]


_LEVELS = {"degraded": "bad", "error": "bad", "ok": "ok", "improved": "ok"}
_HEADLINES = {"ok": "Still right", "improved": "Better than the baseline", "error": "The check failed"}


def performance_view(report: Json) -> dict[str, Any]:
    """The level, headline and tables of metrics of a performance report."""
    realised, estimated = report.get("realised") or {}, report.get("estimated") or {}
    return {
        "level": _LEVELS.get(report["status"], "idle"),
        "headline": _performance_headline(report["status"], realised.get("metrics") or {}),
        "about": {metric.name: metric.description for metric in PERFORMANCE_METRICS},
        "realised": realised,
        "estimated": estimated,
        "segments": _performance_segments(report.get("segments") or {}),
    }


def _performance_headline(status: str, metrics: Json) -> str:
    degraded = [name for name, metric in metrics.items() if metric["status"] == "degraded"]
    if not degraded:
        return _HEADLINES.get(status) or words(status).capitalize()
    worst = metrics[degraded[0]]
    figures = f"{number(worst['value'])}, limit {number(worst['limit'])}"
    rest = f"; also {words(listed(degraded[1:]))}" if degraded[1:] else ""
    return f"{words(degraded[0])} has degraded: {figures}{rest}"


def _performance_segments(segments: Json) -> list[tuple[str, Json]]:
    """Every segment's values as ``channel = web``, with their metrics."""
    return [
        (f"{name} = {value}", entry)
        for name, values in segments.items()
        for value, entry in values.items()
        if isinstance(entry, dict) and entry.get("metrics")
    ]


def service_view(report: Json) -> dict[str, Any]:
    """The level and headline of a service report: the worst that it says."""
    headline = _service_headline(report)
    return {"level": "ok" if headline is None else "bad", "headline": headline or "The service is well"}


def _service_headline(report: Json) -> str | None:
    if report["status"] == "ok":
        return None
    outage, back, service = report.get("outage"), report.get("rolled_back"), report.get("service") or {}
    overdue = [kind for kind, check in (report.get("checks") or {}).items() if check["overdue_s"] > check["limit_s"]]
    if outage:
        return f"The store was away for {duration(outage['seconds'])}"
    if overdue:
        return f"The {overdue[0]} check does not run"
    if back:
        return f"Version {back['version']} was rolled back to {back['to']}"
    failed = f"{share(service.get('error_rate'))} of the rows failed"
    return f"{failed}; 99 % of the answers came within {number(service.get('p99_seconds'))} s"


CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_VIEWS = {"drift": drift_view, "performance": performance_view, "service": service_view}
_FILTERS = (
    formatting.number,
    formatting.share,
    formatting.duration,
    formatting.period,
    formatting.moment,
    formatting.words,
    formatting.listed,
    bars,
    scale,
    statistics,
)


def render_report(report: Json) -> str:
    """Render a report as ``GET /reports/{id}`` gives it.

    A report of a failed check, or one without a verdict, is a page as well: it says what is missing.
    """
    kind = str(report["kind"])
    template = _templates().get_template(f"report_{kind}.html")
    return template.render(report=report, policy=CONTENT_SECURITY_POLICY, **_VIEWS[kind](report))


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
