"""Turn comparisons into verdicts.

Significant and material opens a drift; one wholly clear window closes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from app.monitoring.check_request import SHAPE_SHARE, Limits
from app.monitoring.drift.column_tests import Comparison, Evidence
from app.monitoring.reference.reference import Reference
from app.reports.drift import (
    Brief,
    BriefColumn,
    Column,
    ColumnStatistics,
    DriftReport,
    Judged,
    Severity,
    UnjudgedFeature,
    Verdict,
)
from app.statistics import benjamini_hochberg

_MODERATE, _SEVERE = 0.1, 0.2
MIN_JUDGED_SHARE = 0.5
"""Share of the features that must have a verdict for a window to be called stable."""


@dataclass(frozen=True, slots=True)
class Look:
    """Hold one look at a window: its limits, and the times of its first and last row.

    Times are RFC 3339, which sorts as text.
    """

    limits: Limits
    start: str
    end: str


def judge(look: Look, found: Sequence[Comparison | None], before: Sequence[Column | None]) -> list[Verdict]:
    """Give the verdict on each column of one family of tests, in order.

    ``found`` has None where a column could not be compared; ``before`` holds the same columns' entries in the report of
    the look before, None where there is none. A column with too few independent rows is tested as well, at the limit
    that so few rows allow: where the window lies far outside of what they explain, it has drifted; else it has no
    verdict, since a smaller drift would not be seen.
    """
    limits = look.limits
    adjusted = adjust([None if each is None or _few_reference_rows(each, limits) else each.evidence for each in found])
    verdicts: list[Verdict] = []
    for each, p_value, entry in zip(found, adjusted, before, strict=True):
        if each is None:
            verdicts.append({"status": "error"})
            continue
        reason = missing_rows(each, limits)
        verdict = None if p_value is None else _verdict(look, each, p_value, entry)
        if reason is not None and (verdict is None or verdict["status"] != "drift"):
            verdicts.append({"status": "insufficient_data", "severity": None, "reason": reason, **_figures(each)})
        elif verdict is not None:
            verdicts.append(verdict)
    return verdicts


MIN_ROWS_BEYOND_VARIATION = 10
"""Rows that a window must be worth beside the variation between blocks of the reference, to have a verdict."""


def missing_rows(comparison: Comparison, limits: Limits) -> str | None:
    """Say which rows a quiet window's verdict lacks; None where there are enough."""
    worth, rows = comparison.effective_rows, comparison.rows
    if reason := _few_reference_rows(comparison, limits):
        return reason
    if worth < limits.min_rows:
        return f"rows depend on each other: worth {worth:.0f} of {rows:,}; {limits.min_rows} are needed for a verdict"
    if worth / comparison.variation < MIN_ROWS_BEYOND_VARIATION:
        times = f"{comparison.variation:,.0f} times as much as by chance"
        beyond = f"{rows:,} rows are worth {worth / comparison.variation:.1g}"
        return f"the reference's own blocks differ {times}: {beyond}; {MIN_ROWS_BEYOND_VARIATION} are needed"
    return None


def _few_reference_rows(comparison: Comparison, limits: Limits) -> str | None:
    if comparison.reference_rows >= limits.min_reference_rows:
        return None
    return f"the reference has {comparison.reference_rows} rows, {limits.min_reference_rows} are needed for a verdict"


def list_unjudged(
    features: Mapping[str, Column], before: Sequence[UnjudgedFeature], end: str
) -> tuple[float | None, list[UnjudgedFeature]]:
    """Give the share of features with a verdict, and each feature without one, with the reason.

    Args:
        before: the same list in the report of the look before, against the same reference.
        end: time of the window's last row.

    >>> list_unjudged({"step": {"status": "error", "type": "numeric"}}, [], "2026-11-30T00:00:00Z")
    (0.0, [{'feature': 'step', 'because': 'it could not be compared', 'since': '2026-11-30T00:00:00Z'}])
    """
    since = {each["feature"]: each.get("since") for each in before}
    found: list[UnjudgedFeature] = []
    for name, entry in features.items():
        if entry["status"] in ("stable", "drift"):
            continue
        reason = "it could not be compared" if entry["status"] == "error" else entry["reason"]
        found.append({"feature": name, "because": reason or "", "since": since.get(name) or end})
    return (1 - len(found) / len(features) if features else None), found


def adjust(family: Sequence[Evidence | None]) -> list[float | None]:
    """Correct a family of columns for the number of its tests; None where there is none.

    Benjamini-Hochberg over all tests, weighted so that those of whole distributions together have ``SHAPE_SHARE`` of
    alpha, and those of single shares the rest; a kind that no column needs leaves its part to the other.

    >>> adjust([Evidence(0.001, None, {}), Evidence(0.5, None, {}), None, Evidence(None, 0.01, {})])
    [0.00285..., 0.5, None, 0.0166...]
    """
    tests = [
        (place, kind, p_value)
        for place, evidence in enumerate(family)
        if evidence is not None
        for kind, p_value in enumerate((evidence.shape, evidence.share))
        if p_value is not None
    ]
    kinds = [kind for _, kind, _ in tests]
    parts = np.array([SHAPE_SHARE, 1 - SHAPE_SHARE]) if len(set(kinds)) > 1 else np.ones(2)
    weights = parts[kinds] * len(kinds) / np.array([kinds.count(kind) for kind in kinds])
    corrected = benjamini_hochberg(np.array([p_value for *_, p_value in tests]) / weights)
    smallest = [1.0] * len(family)
    for (place, *_), p_value in zip(tests, corrected.tolist(), strict=True):
        smallest[place] = min(smallest[place], p_value)
    pairs = zip(family, smallest, strict=True)
    return [None if evidence is None else max(p_value, evidence.p_value) for evidence, p_value in pairs]


def withhold(found: Sequence[Comparison | None], reason: str) -> list[Verdict]:
    """Show the statistics of each column without a verdict, and say why."""
    return [
        {"status": "error"}
        if comparison is None
        else {"status": "withheld", "severity": None, "reason": reason, **_figures(comparison)}
        for comparison in found
    ]


def _verdict(look: Look, comparison: Comparison, adjusted: float, before: Column | None) -> Judged:
    """Open, keep open or close one column's drift.

    An open drift closes when the window starts after the last row of the window that last showed it: the alarm does not
    flicker while the same rows are looked at again and again.
    """
    significant = adjusted <= look.limits.alpha and comparison.effect >= look.limits.material_psi
    opened = before if before is not None and before["status"] == "drift" else None
    shown_at = opened.get("last_significant_at") if opened else None
    drifted = significant or (shown_at is not None and look.start <= shown_at)
    last = look.end if significant else shown_at
    return {
        "status": "drift" if drifted else "stable",
        "severity": severity(comparison.psi) if drifted else None,
        "significant": significant,
        "reason": _reason(look, comparison, adjusted, significant=significant) if drifted else None,
        "since": (opened.get("since") if opened else look.end) if drifted else None,
        "last_significant_at": last if drifted else None,
        **_figures(comparison),
        "adjusted_p_value": adjusted,
    }


def _reason(look: Look, comparison: Comparison, adjusted: float, *, significant: bool) -> str:
    if not significant:
        return "the window still holds rows of the one that last showed the drift"
    each = comparison.evidence.each
    strongest = min(each, key=lambda name: each[name])
    return (
        f"significant: {strongest}, adjusted p-value {adjusted:.1e} at a limit of {look.limits.alpha:.1e}; "
        f"material: PSI {comparison.effect:.3f} above noise at a limit of {look.limits.material_psi:g}"
    )


def severity(psi: float) -> Severity:
    """Name a drift by its PSI; this decides nothing."""
    if psi >= _SEVERE:
        return "severe"
    return "moderate" if psi >= _MODERATE else "minor"


def _figures(comparison: Comparison) -> ColumnStatistics:
    return {
        "p_value": comparison.evidence.p_value,
        "adjusted_p_value": None,
        "test": comparison.test,
        "tests": comparison.evidence.each,
        **comparison.distances,
        "impact": comparison.effect,
        "effective_rows": round(comparison.effective_rows),
        "inflation": comparison.inflation,
        "current": comparison.current,
        "reference": comparison.reference,
    }


def comparable_report(previous: DriftReport | None, reference: Reference) -> DriftReport | None:
    """Take the report of the look before, where it had the same reference."""
    about = previous.get("reference") if previous else None
    return previous if about and about["sha256"] == reference.sha256 else None


def overall_status(statuses: set[str], judged_share: float | None) -> Literal["stable", "drift", "insufficient_data"]:
    """Call a window stable only where at least half of its features have a verdict."""
    if "drift" in statuses:
        return "drift"
    few = judged_share is not None and judged_share < MIN_JUDGED_SHARE
    return "insufficient_data" if few or "stable" not in statuses else "stable"


def judge_briefly(found: Sequence[Comparison | None], limits: Limits) -> list[Brief]:
    """Judge comparisons as one family, and say in short what was found."""
    adjusted = adjust([None if each is None or missing_rows(each, limits) else each.evidence for each in found])
    return [_brief(each, p_value, limits) for each, p_value in zip(found, adjusted, strict=True)]


def _brief(comparison: Comparison | None, adjusted: float | None, limits: Limits) -> Brief:
    if comparison is None:
        return {"status": "error"}
    drifted = adjusted is not None and adjusted <= limits.alpha and comparison.effect >= limits.material_psi
    brief: BriefColumn = {
        "status": "insufficient_data" if adjusted is None else "drift" if drifted else "stable",
        "severity": severity(comparison.psi) if drifted else None,
        "p_value": comparison.evidence.p_value,
        "adjusted_p_value": adjusted,
        "test": comparison.test,
        "psi": comparison.psi,
        "psi_noise_floor": comparison.psi_noise_floor,
        "ks_statistic": comparison.distances["ks_statistic"],
        "wasserstein": comparison.distances["wasserstein"],
        "js_distance": comparison.distances["js_distance"],
    }
    reason = missing_rows(comparison, limits)
    return brief if adjusted is not None or reason is None else {**brief, "reason": reason}


def entries_before(previous: DriftReport | None, reference: Reference, count: int) -> list[Column | None]:
    """Give the previous report's entries, or none if it is of another reference."""
    comparable = comparable_report(previous, reference)
    if comparable is None:
        return [None] * count
    features = [comparable["features"].get(name) for name in reference.schema.feature_names]
    prediction = comparable["prediction"]
    return [*features, prediction, None if prediction is None else prediction.get("probability")][:count]


def median_effective_rows(report: DriftReport) -> int:
    """Rows that the window is worth in the feature of the middle."""
    worth = [entry["effective_rows"] for entry in report["features"].values() if entry["status"] != "error"]
    return round(median(worth)) if worth else report["window"]["rows"]


def impacts(effects: Mapping[str, float], dependence: Mapping[str, float]) -> dict[str, float]:
    """Rank causes: drift above noise times how much the model's answer depends on the feature.

    ``share * effect / (1 + effect)``: an effect (PSI above noise) is brought into [0, 1) in its own order, so that all
    impacts lie between 0 and 1, and so does their sum. Where no dependence is known, the effect itself.

    >>> impacts({"age": 0.25, "income": 1.0}, {"age": 0.75, "income": 0.25})
    {'age': 0.15, 'income': 0.125}
    >>> impacts({"age": 0.25}, {})
    {'age': 0.25}
    """
    if not dependence:
        return dict(effects)
    return {name: dependence.get(name, 0.0) * effect / (1 + effect) for name, effect in effects.items()}


def rank_causes(features: Mapping[str, Column], dependence: Mapping[str, float]) -> tuple[dict[str, Column], list[str]]:
    """Add ``effect`` and ``impact`` to the features; name those that drifted, by impact."""
    effects = {name: entry["impact"] for name, entry in features.items() if entry["status"] != "error"}
    weighed = impacts(effects, dependence)
    ranked = {
        name: entry if entry["status"] == "error" else entry | {"effect": effects[name], "impact": weighed[name]}
        for name, entry in features.items()
    }
    drifted = [name for name, entry in ranked.items() if entry["status"] == "drift"]
    return ranked, sorted(drifted, key=lambda name: (-weighed[name], -effects[name]))
