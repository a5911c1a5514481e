"""From metrics to verdicts: degraded is worse than the baseline by more than is allowed; better is no alarm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.monitoring.margins import TWO_SIDED, margin
from app.monitoring.scored import Measured
from app.types import Json

SHOWN_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Degradation:
    """What separates a worse model from noise in one look.

    Attributes:
        allowed: how far a share may fall below its baseline, in points; for errors, the relative rise above it.
        alpha: false-alarm probability of this look for the performance family, its share of the budget already taken.
        min_labelled: below this many outcomes there is no verdict.
    """

    allowed: float = 0.05
    alpha: float = 0.01
    min_labelled: int = 50


@dataclass(frozen=True, slots=True)
class Judge:
    """Grades the metrics of a window, or of one segment of it.

    Attributes:
        groups: how many share the look's false-alarm probability: all rows, and each segment.
        start, end: times of the window's first and last row as RFC 3339, which sorts as text.
    """

    limits: Degradation
    groups: int
    start: str
    end: str

    def grade(
        self, found: Mapping[str, Measured], baseline: Mapping[str, Measured], before: Mapping[str, Json], *, rows: int
    ) -> dict[str, Json]:
        """Give each metric its interval, baseline, limit and status; ``before`` has the entries of the look before.

        All metrics with a baseline take equal parts of the false-alarm probability (Bonferroni), so that together they
        keep it. What is degraded stays so until the window has none of the rows left that last showed it.
        """
        judged = {name for name in found if name in baseline and baseline[name].value is not None}
        tests = self.groups * (len(judged) + (TWO_SIDED in judged)) or 1
        confidence = 1 - 2 * self.limits.alpha / tests if rows >= self.limits.min_labelled else None
        return {
            name: _shown(metric) | self._verdict(name, metric, baseline if name in judged else {}, before, confidence)
            for name, metric in found.items()
        }

    def _verdict(
        self,
        name: str,
        found: Measured,
        baseline: Mapping[str, Measured],
        before: Mapping[str, Json],
        confidence: float | None,
    ) -> Json:
        known = {other: each.value for other, each in baseline.items() if each.value is not None}
        if name not in known or found.value is None:
            return {"baseline": known.get(name), "limit": None, "status": "insufficient_data"}
        limit = margin(name, found.value, known, self.limits.allowed)
        entry = {"baseline": known[name], "limit": limit.limit(known[name])}
        if confidence is None:
            return entry | {"status": "insufficient_data"}
        worse = limit.exceeded(found, baseline[name], confidence)
        was = before.get(name, {})
        was_open = was.get("status") == "degraded"
        if worse or (was_open and self.start <= was["last_degraded_at"]):
            since, last = was["since"] if was_open else self.end, self.end if worse else was["last_degraded_at"]
            return entry | {"status": "degraded", "since": since, "last_degraded_at": last}
        better = name != TWO_SIDED and limit.bettered(found, baseline[name], confidence)
        return entry | {"status": "improved" if better else "ok"}


def overall(graded: Iterable[Json]) -> str:
    """Sum up: the worst news first; without any verdict, ``insufficient_data``."""
    statuses = {metric["status"] for metric in graded}
    return next((status for status in ("degraded", "improved", "ok") if status in statuses), "insufficient_data")


def _shown(found: Measured) -> Json:
    low, high = (None, None) if found.interval is None else found.interval.bounds(SHOWN_CONFIDENCE)
    return {"value": found.value, "low": _finite(low), "high": _finite(high)}


def _finite(bound: float | None) -> float | None:
    return bound if bound is not None and math.isfinite(bound) else None
