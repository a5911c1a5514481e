"""The drift report of a window against its reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from app.figures.drift import no_unusual_rows
from app.monitoring.check_request import SHAPE_SHARE, Limits
from app.monitoring.drift.column_tests import Comparison, answers, compare_all
from app.monitoring.drift.multivariate import joint_of, not_run
from app.monitoring.drift.unusual_rows import find_unusual
from app.monitoring.drift.verdict import (
    Look,
    comparable_report,
    entries_before,
    judge,
    judge_briefly,
    list_unjudged,
    median_effective_rows,
    overall_status,
    rank_causes,
    withhold,
)
from app.monitoring.quality.report import data_quality
from app.monitoring.reference.columns import GapsBefore, ReferenceColumn, gaps_before, snap
from app.monitoring.reference.encoding import (
    Codes,
    GroupedRows,
    Groups,
    Worth,
    encode,
    find_groups,
    names_groups,
    row_codes,
    without_copies,
    worth,
)
from app.monitoring.reference.reference import Reference
from app.monitoring.reference.seasonality import Season, choose
from app.reports.drift import (
    Calibration,
    CheckError,
    Column,
    DriftReport,
    DriftSegment,
    DriftSegments,
    EntitySummary,
    JointDrift,
    Prediction,
    PreviousWindow,
    ReferenceSummary,
)
from app.store.database import Pause, no_pause
from app.store.queries.windows import Arrivals, Window
from app.types import ModelSchema, to_rfc3339

_ROWS_PER_WINDOW_ROW = 10
"""Reference rows per row of the window from which an unlucky reference alarms about as rarely as the budget says."""


def empty_report(reference: Reference | None, window: Window, limits: Limits) -> DriftReport:
    """Make a drift report with its window, reference and limits, and no finding yet."""
    times = window.predicted_at
    return {
        "window": {
            "rows": window.rows,
            "hours": window.hours,
            "sampled_from": window.sampled_from,
            "from": to_rfc3339(times[0]) if times else None,
            "to": to_rfc3339(times[-1]) if times else None,
            "effective_rows": window.rows,
        },
        "reference": None if reference is None else _about(reference),
        "entity": None,
        "judged_share": None,
        "unjudged": [],
        "drift_share": None,
        "drifted_features": [],
        "limits": {
            "false_alarm_every": limits.false_alarm_every,
            "alpha_per_look": limits.alpha,
            "material_psi": limits.material_psi,
            "correction": "benjamini-hochberg",
            "parts_of_alpha": {"shape": SHAPE_SHARE, "single_shares": 1 - SHAPE_SHARE},
            "min_rows": limits.min_rows,
            **_calibration(reference, window),
        },
        "features": {},
        "prediction": None,
        "multivariate": not_run("there is nothing to compare with"),
        "unusual_rows": no_unusual_rows("there is nothing to compare with"),
        "seasonal": {"status": "none", "reason": "no seasonal reference"},
        "data_quality": {"status": "insufficient_data", "findings": []},
        "previous_window": None,
        "segments": {},
        "errors": [],
        "status": "insufficient_data",
    }


def _about(reference: Reference) -> ReferenceSummary:
    return {
        "rows": reference.rows,
        "created_at": reference.created_at,
        "sha256": reference.sha256,
        "in_sample": reference.in_sample,
    }


def _calibration(reference: Reference | None, window: Window) -> Calibration:
    """Tell whether ``false_alarm_every`` holds for this very reference."""
    needed = _ROWS_PER_WINDOW_ROW * window.rows
    if reference is None or reference.rows >= needed:
        return {"calibrated": reference is not None, "reason": None if reference else "no reference"}
    reason = f"the reference is too small: {reference.rows} rows, {needed} are needed for windows of {window.rows}"
    return {"calibrated": False, "reason": reason}


_NAMES_GROUPS = "it names the groups, such as users, that the rows are of: no number of rows makes windows alike"
_IN_SAMPLE = "the reference is data that the model was fitted on: bundle it with a holdout"


def drift_report(
    schema: ModelSchema,
    reference: Reference | None,
    window: Window,
    limits: Limits,
    previous: DriftReport | None,
    *,
    earlier: Window | None = None,
    segments: Sequence[str] = (),
    arrivals: Arrivals | None = None,
    entity: str | None = None,
    pause: Pause = no_pause,
) -> DriftReport:
    """Compare a window with the reference.

    The result is the answer of ``GET /drift`` without its id, model and time. It depends on the arguments alone.
    ``previous`` is the report of the look before, or None: a drift that it holds stays open until the window has none
    of the rows left that last showed it. A column that cannot be compared is an entry in ``errors``; the others go on.
    ``earlier`` is the window before, and ``segments`` name the categorical features by whose values the rows are looked
    at separately; what they show is for people, and alarms nobody. ``arrivals`` say when rows came, for data quality.
    ``entity`` names the feature or the key of the context whose rows resemble each other.
    """
    report = empty_report(reference, window, limits)
    if window.rows < limits.min_rows:
        message = f"the window has {window.rows} rows, {limits.min_rows} are needed"
        return report | {"status": "insufficient_data", "message": message, "unusual_rows": no_unusual_rows(message)}
    arrays = encode(schema, window.features) + answers(schema, window)
    if reference is None:
        quality = data_quality(schema, None, arrays[: len(schema.features)], limits, arrivals=arrivals, pause=pause)
        message = "the model was bundled without reference data: bundle it with --holdout"
        report["unusual_rows"] = no_unusual_rows(message)
        return report | {"data_quality": quality, "status": "no_reference", "message": message}
    sides = _sides(reference, window, arrays, earlier, entity)
    watched, arrays, columns = sides.watched, sides.arrays, sides.arrays[: len(schema.features)]
    known: dict[str, Any] = {"predictions": arrays[len(columns)], "season": sides.season.columns, "arrivals": arrivals}
    known |= {"inflations": sides.inflations, "pause": pause}
    report |= {
        "seasonal": sides.season.about,
        "entity": _entity(sides.groups),
        "data_quality": data_quality(schema, reference, columns, limits, **known),
        "segments": by_segment(watched, arrays, segments, limits, pause),
    }
    if earlier is not None:
        report["previous_window"] = against_previous(schema, watched, arrays, earlier, limits, pause)
    codes = row_codes(columns)
    distinct = worth(codes, reference.collisions)
    report = _with_verdicts(report, reference, sides, window, limits, previous, distinct=distinct, pause=pause)
    report["multivariate"] = _joint(report, reference, sides, codes, window, limits, previous, pause=pause)
    report["unusual_rows"] = find_unusual(sides.season.together, columns, window.ids, limits, pause)
    return _completed(report, reference, limits, entity)


class _Sides(NamedTuple):
    """The columns of both sides, with what makes their rows less than they seem."""

    watched: list[ReferenceColumn]
    arrays: list[NDArray[Any]]
    season: Season
    groups: Groups | None
    grouped: list[Worth]
    inflations: list[float]
    """Of the reference's blocks and of groups together."""
    gaps: list[GapsBefore | None]


def _sides(
    reference: Reference, window: Window, arrays: list[NDArray[Any]], earlier: Window | None, entity: str | None
) -> _Sides:
    watched = [*reference.features, *reference.answers][: len(arrays)]
    arrays = [snap(*pair) for pair in zip(watched, arrays, strict=False)]
    season = choose(watched, reference.cycles[: len(watched)], reference.times, np.array(window.predicted_at))
    count = len(reference.features)
    rows = GroupedRows(window.features, window.contexts)
    before = GroupedRows([], []) if earlier is None else GroupedRows(earlier.features, earlier.contexts)
    groups = find_groups(watched[:count], arrays[:count], rows, before, entity, reference.groups)
    grouped = [Worth()] * len(watched) if groups is None else groups.worth(season.columns, arrays)
    wider = zip(reference.inflations(window.rows), grouped, strict=False)
    parts = [each / share.window.values for each, share in wider]
    return _Sides(watched, arrays, season, groups, grouped, parts, gaps_before(watched, before.features, window.rows))


def _entity(groups: Groups | None) -> EntitySummary | None:
    return groups and {"name": groups.name, "configured": groups.configured, "entities": groups.entities}


def _joint(
    report: DriftReport,
    reference: Reference,
    sides: _Sides,
    codes: Codes,
    window: Window,
    limits: Limits,
    previous: DriftReport | None,
    *,
    pause: Pause,
) -> JointDrift:
    """Judge the features together, without the copies of rows."""
    count, groups = len(reference.features), sides.groups
    members = [] if groups is None else [groups.window]
    alone = without_copies([*sides.arrays[:count], *members], codes, reference.collisions)
    kept = None if groups is None else groups._replace(window=alone.pop())
    entries, errors, together = report["features"], report["errors"], sides.season.together[:count]
    return joint_of(reference, together, alone, window, limits, previous, entries, errors, groups=kept, pause=pause)


def _completed(report: DriftReport, reference: Reference, limits: Limits, entity: str | None) -> DriftReport:
    """Put in what follows from the verdicts on features and on all of them together."""
    if reference.rows < limits.min_reference_rows:
        needed = limits.min_reference_rows
        report["message"] = f"the reference has {reference.rows} rows, {needed} are needed for a verdict"
    elif report["status"] == "insufficient_data" and (unjudged := report.get("unjudged")):
        first = f"{unjudged[0]['feature']}: {unjudged[0]['because']}"
        report["message"] = f"{len(unjudged)} of {len(report['features'])} features have no verdict; {first}"
    if entity is not None and report.get("entity") is None:
        missing = "drift.entity is neither a feature nor a key of any row's context: rows count as independent"
        report["errors"].append({"feature": entity, "reason": missing})
    if report["multivariate"]["status"] == "drift":
        report["status"] = "drift"
    report["window"]["effective_rows"] = median_effective_rows(report)
    return report


def _with_verdicts(
    report: DriftReport,
    reference: Reference,
    sides: _Sides,
    window: Window,
    limits: Limits,
    previous: DriftReport | None,
    *,
    distinct: float,
    pause: Pause,
) -> DriftReport:
    """Judge all columns as one family.

    Answers are left out where the model was fitted on the reference, and so is a feature whose values are groups.
    """
    errors: list[CheckError] = []
    watched = sides.season.columns
    wider = reference.inflations(window.rows)[: len(watched)]
    arrays = sides.arrays[: len(watched)]
    found = compare_all(watched, arrays, errors, wider, distinct, sides.grouped, sides.gaps, pause)
    before = entries_before(previous, reference, len(watched))
    look = Look(limits, to_rfc3339(window.predicted_at[0]), to_rfc3339(window.predicted_at[-1]))
    family = len(reference.features) if reference.in_sample else len(watched)
    by = [place for place, each in enumerate(watched) if sides.groups and names_groups(each, sides.groups)]
    tested = [None if place in by else each for place, each in enumerate(found)]
    verdicts = judge(look, tested[:family], before[:family]) + withhold(found[family:], _IN_SAMPLE)
    for place in by:
        verdicts[place] = withhold([found[place]], _NAMES_GROUPS)[0]
    entries = [
        cast("Column", {"type": column.subject.type, **verdict})
        for column, verdict in zip(watched, verdicts, strict=True)
    ]
    features = dict(zip(reference.schema.feature_names, entries, strict=False))
    prediction, probability = [*entries[len(features) :], None][:2]
    features, drifted = rank_causes(features, reference.dependence)
    comparable = comparable_report(previous, reference)
    share, unjudged = list_unjudged(features, comparable.get("unjudged", []) if comparable else [], look.end)
    judged = len(features) - len(unjudged)
    return report | {
        "status": overall_status({entry["status"] for entry in entries}, share),
        "judged_share": share,
        "unjudged": unjudged,
        "drift_share": len(drifted) / judged if judged else None,
        "drifted_features": drifted,
        "features": features,
        "prediction": cast("Prediction", {**(prediction or {}), "probability": probability}),
        "errors": errors,
    }


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
        return {**report, "reason": f"the window before has {before.rows} rows, {limits.min_rows} are needed"}
    columns = encode(schema, before.features) + answers(schema, before)
    pairs = zip(watched, columns, strict=False)
    earlier = [ReferenceColumn(each.subject, snap(each, array), ordered=True) for each, array in pairs][: len(arrays)]
    entries = judge_briefly(compare_all(earlier, arrays[: len(earlier)], [], pause=pause), limits)
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

    A segment is one value of a categorical feature. One family over all segments. What did not drift is counted only;
    a name that is no categorical feature of the reference has a reason instead.
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
    entries = iter(judge_briefly(found, limits))
    for entry, compared in places:
        judged = {name: next(entries) for name, _ in compared}
        entry["features"] = {name: each for name, each in judged.items() if each["status"] == "drift"}
        entry["drifted_features"] = list(entry["features"])
        entry["status"] = "drift" if entry["features"] else "stable"
    return report


def _parts(
    watched: Sequence[ReferenceColumn], arrays: Sequence[NDArray[Any]], by: int, least: int, pause: Pause
) -> Iterator[tuple[str, DriftSegment, list[tuple[str, Comparison | None]]]]:
    """Give each frequent value of a segment; those with enough rows on both sides are compared."""
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
        if min(rows, reference_rows) < least:
            entry["reason"] = f"{rows} rows and {reference_rows} in the reference: {least} of each are needed"
        else:
            others = [place for place in range(len(arrays)) if place != by]
            parts = [ReferenceColumn(watched[place].subject, watched[place].values[ours]) for place in others]
            found = compare_all(parts, [arrays[place][theirs] for place in others], [], pause=pause)
            compared = [(part.subject.name, each) for part, each in zip(parts, found, strict=True)]
        yield str(categories[code]), entry, compared
