"""From metrics to verdicts: degraded is worse than its limit and worse than chance explains; better is no alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.monitoring.intervals import Spread
from app.types import Json

_LOWER_IS_BETTER = {"mae", "rmse", "log_loss"}
_SHOWN_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Degradation:
    """What separates a worse model from noise in one look.

    Attributes:
        allowed: how far a metric may fall below its baseline; for errors, the relative rise above it.
        alpha: false-alarm probability of this look for the performance family, its share of the budget already taken.
        min_labelled: below this many outcomes there is no verdict.
    """

    allowed: float = 0.05
    alpha: float = 0.01
    min_labelled: int = 50

    def limit(self, metric: str, baseline: float) -> float:
        """Give the value from which on a metric is worse than the user accepts."""
        return baseline * (1 + self.allowed) if metric in _LOWER_IS_BETTER else baseline - self.allowed


def grade(
    values: Mapping[str, float | None],
    around: Spread,
    baseline: Mapping[str, float | None],
    limits: Degradation,
    *,
    enough: bool,
) -> dict[str, Json]:
    """Give each metric its interval, baseline, limit and status.

    Degraded takes two intervals: the shown one, of 95 %, excludes the limit; and one so wide that chance leaves it with
    probability ``limits.alpha`` over all metrics excludes the baseline, so that small windows keep the budget.
    """
    surprise = 1 - 2 * limits.alpha / max(len(values), 1)
    return {
        name: _grade(name, value, around, baseline.get(name), limits, surprise if enough else None)
        for name, value in values.items()
    }


def _grade(
    name: str, value: float | None, around: Spread, baseline: float | None, limits: Degradation, surprise: float | None
) -> Json:
    low, high = (None, None) if value is None else around.interval(name, value, _SHOWN_CONFIDENCE)
    limit = None if baseline is None else limits.limit(name, baseline)
    status = "insufficient_data"
    if value is not None and baseline is not None and surprise is not None:
        shown, wide = (around.interval(name, value, confidence) for confidence in (_SHOWN_CONFIDENCE, surprise))
        status = _status(name, shown, wide, baseline, limits)
    return {"value": value, "low": low, "high": high, "baseline": baseline, "limit": limit, "status": status}


def _status(
    name: str, shown: tuple[float, float], wide: tuple[float, float], baseline: float, limits: Degradation
) -> str:
    limit = limits.limit(name, baseline)
    above = shown[0] > limit, min(shown[0], wide[0]) > baseline
    below = shown[1] < limit, max(shown[1], wide[1]) < baseline
    worse, better = (above, below) if name in _LOWER_IS_BETTER else (below, above)
    if all(worse):
        return "degraded"
    return "improved" if better[1] else "ok"


def overall(graded: Mapping[str, Json]) -> str:
    """Sum up: the worst news first; without any verdict, ``insufficient_data``."""
    statuses = {metric["status"] for metric in graded.values()}
    return next((status for status in ("degraded", "improved", "ok") if status in statuses), "insufficient_data")
