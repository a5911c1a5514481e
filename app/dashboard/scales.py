"""A metric's figures on a line: where its value, interval, baseline and limit lie."""

from __future__ import annotations

from dataclasses import dataclass

from app.types import Json

_MARGIN = 0.06


@dataclass(frozen=True, slots=True)
class Scale:
    """Places on a line from 0 to 100; None where there is no such figure."""

    value: float
    low: float
    high: float
    baseline: float | None
    limit: float | None


def scale(metric: Json) -> Scale | None:
    """Lay out a metric of a performance report; None where it has no interval.

    >>> scale({"value": 0.8, "low": 0.7, "high": 0.9, "baseline": None, "limit": 0.7})
    Scale(value=50.0, low=5.36, high=94.64, baseline=None, limit=5.36)
    """
    figures = [metric.get(name) for name in ("value", "low", "high")]
    value, low, high = figures
    if value is None or low is None or high is None:
        return None
    baseline, limit = metric.get("baseline"), metric.get("limit")
    known = [low, value, high, *(figure for figure in (baseline, limit) if figure is not None)]
    room = (max(known) - min(known)) * _MARGIN or 1.0
    start, width = min(known) - room, max(known) - min(known) + 2 * room

    def place(figure: float) -> float:
        return float(round(100 * (figure - start) / width, 2))

    return Scale(
        place(value),
        place(low),
        place(high),
        None if baseline is None else place(baseline),
        None if limit is None else place(limit),
    )
