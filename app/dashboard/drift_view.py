"""What the page of a drift report says first, and in which order."""

from __future__ import annotations

from typing import Any

from app.dashboard.words import listed, words
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


def _segments(segments: Json) -> list[tuple[str, Json]]:
    """Every segment's values as ``channel = web``, with what drifted in them."""
    return [(f"{name} = {value}", entry) for name, each in segments.items() for value, entry in each["values"].items()]
