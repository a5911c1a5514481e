"""Compare a window with the window before it, and segment by segment.

These comparisons are for people to read; they raise no alarm.

Neither alarms. Each is judged as one family at the alpha of the look, without memory of earlier looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.drift.column_tests import Comparison, answers, compare_all
from app.monitoring.drift.verdict import adjust, missing_rows, severity
from app.monitoring.false_alarm_budget import Limits
from app.monitoring.reference.columns import ReferenceColumn
from app.monitoring.reference.encoding import encode
from app.reports.drift import Brief, DriftSegment, DriftSegments, PreviousWindow
from app.store.queries.windows import Window
from app.store.throttle import Pause, no_pause
from app.types import ModelSchema, to_rfc3339

MAX_SEGMENTS = 20
"""Values of one segmenting feature that are looked at: the window's most frequent ones."""


def against_previous(
    schema: ModelSchema,
    watched: Sequence[ReferenceColumn],
    arrays: Sequence[NDArray[Any]],
    before: Window,
    limits: Limits,
    pause: Pause = no_pause,
) -> PreviousWindow:
    """Compare a window with the one before, whatever the reference says."""
    report: PreviousWindow = {
        "compared_with": "the window before",
        "window": {
            "rows": before.rows,
            "from": to_rfc3339(before.predicted_at[0]) if before.rows else None,
            "to": to_rfc3339(before.predicted_at[-1]) if before.rows else None,
        },
        "status": "insufficient_data",
        "drifted_features": [],
        "features": {},
        "prediction": None,
    }
    if before.rows < limits.min_rows:
        return report
    columns = encode(schema, before.features) + answers(schema, before)
    pairs = zip(watched, columns, strict=False)
    earlier = [ReferenceColumn(column.subject, array, ordered=True) for column, array in pairs][: len(arrays)]
    entries = _entries(compare_all(earlier, arrays[: len(earlier)], [], pause=pause), limits)
    features = dict(zip(schema.feature_names, entries, strict=False))
    drifted = [name for name, entry in features.items() if entry["status"] == "drift"]
    return {
        **report,
        "status": "drift" if any(entry["status"] == "drift" for entry in entries) else "stable",
        "drifted_features": drifted,
        "features": features,
        "prediction": entries[len(features)] if len(entries) > len(features) else None,
    }


def by_segment(
    watched: Sequence[ReferenceColumn],
    arrays: Sequence[NDArray[Any]],
    names: Sequence[str],
    limits: Limits,
    pause: Pause = no_pause,
) -> dict[str, DriftSegments]:
    """Compare each segment's rows with the reference's rows of the same segment.

    A segment is one value of a categorical feature.

    One family over all segments. What did not drift is counted only; a name that is no categorical feature of the
    reference has a reason instead.
    """
    report: dict[str, DriftSegments] = {}
    places, found = [], []
    for name in names:
        by = next((place for place, column in enumerate(watched) if column.subject.name == name), None)
        if by is None or watched[by].subject.categories is None:
            report[name] = {"reason": "not a categorical feature: the reference cannot be divided by it", "values": {}}
            continue
        report[name] = {"reason": None, "values": {}}
        for value, entry, compared in _parts(watched, arrays, by, limits.min_rows, pause):
            report[name]["values"][value] = entry
            if compared:
                places.append((entry, compared))
            found += [comparison for _, comparison in compared]
    entries = iter(_entries(found, limits))
    for entry, compared in places:
        judged = {name: next(entries) for name, _ in compared}
        entry["features"] = {name: each for name, each in judged.items() if each["status"] == "drift"}
        entry["drifted_features"] = list(entry["features"])
        entry["status"] = "drift" if entry["features"] else "stable"
    return report


def _parts(
    watched: Sequence[ReferenceColumn], arrays: Sequence[NDArray[Any]], by: int, least: int, pause: Pause
) -> Iterator[tuple[str, DriftSegment, list[tuple[str, Comparison | None]]]]:
    """Give each frequent value of a segment with its entry.

    It is compared where both sides have enough rows.
    """
    categories = watched[by].subject.categories or ()
    codes, counts = np.unique(arrays[by][arrays[by] >= 0], return_counts=True)
    for code in codes[np.argsort(-counts, kind="stable")][:MAX_SEGMENTS].tolist():
        ours, theirs = watched[by].values == code, arrays[by] == code
        rows, reference_rows = int(theirs.sum()), int(ours.sum())
        entry: DriftSegment = {
            "rows": rows,
            "reference_rows": reference_rows,
            "status": "insufficient_data",
            "drifted_features": [],
            "features": {},
        }
        compared: list[tuple[str, Comparison | None]] = []
        if min(rows, reference_rows) >= least:
            others = [place for place in range(len(arrays)) if place != by]
            parts = [ReferenceColumn(watched[place].subject, watched[place].values[ours]) for place in others]
            found = compare_all(parts, [arrays[place][theirs] for place in others], [], pause=pause)
            compared = [(part.subject.name, each) for part, each in zip(parts, found, strict=True)]
        yield str(categories[code]), entry, compared


def _entries(found: Sequence[Comparison | None], limits: Limits) -> list[Brief]:
    """Judge comparisons as one family, and say in short what was found."""
    adjusted = adjust([None if each is None or missing_rows(each, limits) else each.evidence for each in found])
    return [_entry(each, p_value, limits) for each, p_value in zip(found, adjusted, strict=True)]


def _entry(comparison: Comparison | None, adjusted: float | None, limits: Limits) -> Brief:
    if comparison is None:
        return {"status": "error"}
    drifted = adjusted is not None and adjusted <= limits.alpha and comparison.effect >= limits.material_psi
    return {
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
