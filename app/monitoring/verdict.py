"""From comparisons to verdicts: significant and material opens a drift, one wholly clear window closes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.monitoring.comparison import Comparison
from app.monitoring.limits import Limits
from app.monitoring.statistics import benjamini_hochberg
from app.types import Json

_MODERATE, _SEVERE = 0.1, 0.2


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a window: its limits, and the times of its first and last row as RFC 3339 (which sorts as text)."""

    limits: Limits
    start: str
    end: str


def judge(look: Look, found: Sequence[Comparison | None], before: Sequence[Json | None]) -> list[Json]:
    """Give the verdict on each column of one family of tests, in order.

    ``found`` has None where a column could not be compared; ``before`` holds the same columns' entries in the report of
    the look before, None where there is none.
    """
    tested = [comparison for comparison in found if comparison is not None]
    adjusted = iter(benjamini_hochberg(np.array([comparison.p_value for comparison in tested])).tolist())
    return [
        {"status": "error"} if comparison is None else _verdict(look, comparison, next(adjusted), entry or {})
        for comparison, entry in zip(found, before, strict=True)
    ]


def withhold(found: Sequence[Comparison | None], reason: str) -> list[Json]:
    """Show the statistics of each column without a verdict, and say why."""
    withheld = {"status": "withheld", "severity": None, "reason": reason}
    return [{"status": "error"} if comparison is None else withheld | _figures(comparison) for comparison in found]


def _verdict(look: Look, comparison: Comparison, adjusted: float, before: Json) -> Json:
    """Open, keep open or close one column's drift.

    An open drift closes when the window starts after the last row of the window that last showed it: the alarm does not
    flicker while the same rows are looked at again and again.
    """
    significant = adjusted <= look.limits.alpha and comparison.effect >= look.limits.material_psi
    was_open = before.get("status") == "drift"
    drifted = significant or (was_open and look.start <= before["last_significant_at"])
    last = look.end if significant else before.get("last_significant_at")
    return {
        "status": "drift" if drifted else "stable",
        "severity": _severity(comparison.psi) if drifted else None,
        "significant": significant,
        "since": (before["since"] if was_open else look.end) if drifted else None,
        "last_significant_at": last if drifted else None,
        **_figures(comparison),
        "adjusted_p_value": adjusted,
    }


def _severity(psi: float) -> str:
    if psi >= _SEVERE:
        return "severe"
    return "moderate" if psi >= _MODERATE else "minor"


def _figures(comparison: Comparison) -> Json:
    return {
        "p_value": comparison.p_value,
        "adjusted_p_value": None,
        "test": comparison.test,
        "psi": comparison.psi,
        "psi_noise_floor": comparison.psi_noise_floor,
        "ks_statistic": comparison.ks_statistic,
        "wasserstein": comparison.wasserstein,
        "js_distance": comparison.js_distance,
        "impact": comparison.effect,
        "current": comparison.current,
        "reference": comparison.reference,
    }
