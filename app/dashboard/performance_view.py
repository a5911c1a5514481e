"""What the page of a performance report says first."""

from __future__ import annotations

from typing import Any

from app.dashboard.words import listed, number, words
from app.types import Json

_LEVELS = {"degraded": "bad", "error": "bad", "ok": "ok", "improved": "ok"}
_HEADLINES = {"ok": "Still right", "improved": "Better than the baseline", "error": "The check failed"}


def performance_view(report: Json) -> dict[str, Any]:
    """The level, headline and tables of metrics of a performance report."""
    realised, estimated = report.get("realised") or {}, report.get("estimated") or {}
    return {
        "level": _LEVELS.get(report["status"], "idle"),
        "headline": _headline(report["status"], realised.get("metrics") or {}),
        "realised": realised,
        "estimated": estimated,
        "segments": _segments(report.get("segments") or {}),
    }


def _headline(status: str, metrics: Json) -> str:
    degraded = [name for name, metric in metrics.items() if metric["status"] == "degraded"]
    if not degraded:
        return _HEADLINES.get(status) or words(status).capitalize()
    worst = metrics[degraded[0]]
    figures = f"{number(worst['value'])}, limit {number(worst['limit'])}"
    rest = f"; also {words(listed(degraded[1:]))}" if degraded[1:] else ""
    return f"{words(degraded[0])} has degraded: {figures}{rest}"


def _segments(segments: Json) -> list[tuple[str, Json]]:
    """Every segment's values as ``channel = web``, with their metrics."""
    return [
        (f"{name} = {value}", entry)
        for name, values in segments.items()
        for value, entry in values.items()
        if isinstance(entry, dict) and entry.get("metrics")
    ]
