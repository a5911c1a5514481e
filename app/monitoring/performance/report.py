"""The performance report: realised metrics, by class and segment, and a shadow's advantage."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.concept_drift import concept_drift
from app.monitoring.performance.degradation import (
    GROUPS,
    SHOWN_CONFIDENCE,
    Baseline,
    Degradation,
    Judge,
    baseline_of,
    overall,
)
from app.monitoring.performance.label_selection import Selection, select
from app.monitoring.performance.scoring import Measured, Scored, is_mature, known, label_delays, score
from app.monitoring.reference.columns import finite
from app.monitoring.reference.encoding import encode_labels, encode_outcomes
from app.monitoring.reference.reference import Reference
from app.reports.performance import (
    Amounts,
    Business,
    ByClass,
    ClassMetrics,
    Estimated,
    Interval,
    Metric,
    MetricError,
    PerformanceReport,
    Realised,
    SegmentMetrics,
    Versus,
)
from app.statistics import FloatArray
from app.statistics.intervals import Mean, Share, dependent, of_mean, of_ratio
from app.store.database import Pause, no_pause
from app.store.queries.labelled import ErrorStream, Labelled, Pair
from app.types import Label, Micros, ModelSchema, Scalar, Task, label_key, to_rfc3339


def by_class(rows: Scored) -> ByClass:
    """Count truths (down) against predictions (across), with precision and recall by class.

    A class that came and that the model lacks has its own row; its column is empty.

    Regression has none.
    """
    schema = rows.schema
    if schema.task is Task.REGRESSION or not rows.rows:
        return {}
    names = [label_key(label) for label in schema.classes]
    names += [f"{name} (unknown)" if name in names else name for name in map(label_key, rows.unknown)]
    size = len(names)
    known = (rows.outcomes >= 0) & (rows.predictions >= 0)
    cells = rows.outcomes[known] * size + rows.predictions[known]
    counts = np.bincount(cells, minlength=size**2).reshape(size, size)
    classes = {name: _class(rows.only(known), counts, place) for place, name in enumerate(names)}
    found: ByClass = {"confusion_matrix": {"labels": names, "counts": counts.tolist()}, "classes": classes}
    unknown = rows.unknown_classes()
    return found if unknown is None else {**found, "unknown_classes": unknown}


def business(schema: ModelSchema, window: Labelled) -> Business:
    """Add up the business values of the outcomes, over all rows and by prediction."""
    shares: dict[Label, list[float]] = {label: [] for label in schema.classes}
    for value, said in zip(window.values, window.predictions, strict=True):
        if value is not None and said in shares:
            shares[said].append(value)
    given = [value for value in window.values if value is not None]
    by_prediction = {label_key(label): _amounts(values) for label, values in shares.items()}
    return {**_amounts(given), "by_prediction": by_prediction}


def _class(rows: Scored, counts: NDArray[Any], place: int) -> ClassMetrics:
    hits, support = int(counts[place, place]), int(counts[place].sum())
    precision, recall = Share(hits, int(counts[:, place].sum())), Share(hits, support)
    actual, said = ((labels == place).astype(np.float64) for labels in (rows.outcomes, rows.predictions))
    return {
        "support": support,
        "precision": _share(precision, of_ratio(actual * said, said)),
        "recall": _share(recall, of_ratio(actual * said, actual)),
    }


def _share(share: Share, influence: FloatArray) -> Interval:
    low, high = dependent(share, influence).bounds(SHOWN_CONFIDENCE)
    return {"value": share.hits / share.trials if share.trials else None, "low": low, "high": high}


def _amounts(values: list[float]) -> Amounts:
    """Sum and mean; a sum beyond all numbers is null."""
    if not values:
        return {
            "value_count": 0,
            "value_sum": None,
            "value_mean": None,
            "value_mean_low": None,
            "value_mean_high": None,
        }
    total = _sum(values)
    low, high = (None, None)
    if total is not None:
        mean_of = dependent(Mean.of(np.array(values)), of_mean(np.array(values)))
        low, high = (finite(bound) for bound in mean_of.bounds(SHOWN_CONFIDENCE))
    mean = None if total is None else total / len(values)
    amounts: Amounts = {
        "value_count": len(values),
        "value_sum": total,
        "value_mean": mean,
        "value_mean_low": low,
        "value_mean_high": high,
    }
    return amounts if total is not None else {**amounts, "reason": "the sum is beyond the largest number"}


def _sum(values: list[float]) -> float | None:
    try:
        return finite(math.fsum(values))
    except OverflowError:
        return None


MAX_SEGMENT_VALUES = 20
"""Values of one segment that are reported, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Hold one segment: its rows, and the baseline of the reference's rows that are in it."""

    name: str
    value: str
    rows: NDArray[np.bool_]
    baseline: Mapping[str, Measured]


def places(schema: ModelSchema, names: Sequence[str]) -> dict[str, int | None]:
    """Give the position of each segment's feature, or None for a key of the context."""
    position = {name: place for place, name in enumerate(schema.feature_names)}
    return {name: position.get(name) for name in names}


def split(
    schema: ModelSchema, columns: Mapping[str, Sequence[Scalar]], baseline: Baseline, pause: Pause = no_pause
) -> list[Segment]:
    """Split rows by the values of each segment, the most frequent first.

    A row without a value is in no segment.
    """
    found = []
    for name, feature in places(schema, list(columns)).items():
        values = columns[name]
        for value, _ in Counter(each for each in values if each is not None).most_common(MAX_SEGMENT_VALUES):
            pause()
            rows = np.array([each is not None and each == value for each in values], dtype=np.bool_)
            found.append(Segment(name, label_key(value), rows, baseline.of(feature, value)))
    return found


def performance_report(
    schema: ModelSchema,
    reference: Reference | None,
    window: Labelled,
    limits: Degradation,
    *,
    now: Micros,
    stream: Sequence[ErrorStream] = (),
    label_delay_s: float | None = None,
    previous: PerformanceReport | None = None,
    pause: Pause = no_pause,
) -> PerformanceReport:
    """Judge a window's outcomes against the baseline.

    The result is the answer of ``GET /performance`` without id, model and time.

    A metric is degraded as :class:`Judge` says; the report is a function of its arguments alone. Without outcomes in
    the reference, or where it is in-sample, there is no verdict. A window is mature when its newest row is older than
    ``label_delay_s``, by default the 95th percentile of its own delays. ``stream`` are the latest judged answers in
    the order in which their truth came, and ``previous`` is the report of the look before.
    """
    errors: list[MetricError] = []
    baseline, before = baseline_of(reference), _comparable(previous, reference)
    whole, labelled = score(schema, window, errors)
    selection = select(whole, labelled, window.segments, None if baseline.missing else baseline.scored)
    rows = replace(whole.only(labelled), copies=selection.copies)
    parts = split(schema, window.segments, baseline, pause)
    start, end = (to_rfc3339(window.predicted_at[place]) for place in (0, -1)) if window.rows else (None, None)
    judge = Judge(limits, GROUPS * (1 + len(parts)), start or "", end or "")
    graded = _grade(judge, rows, baseline, before, errors, selection)
    segments = _segments(judge, rows, labelled, parts, before, selection, pause)
    status = overall(chain(graded.values(), *(entry["metrics"].values() for entry in _each(segments))))
    return {
        "status": status,
        "basis": "none" if status == "insufficient_data" else "realised",
        "message": _message(rows.rows, limits, baseline),
        "window": {"rows": window.rows, "sampled_from": window.sampled_from, "from": start, "to": end},
        "limits": {"alpha_per_look": limits.alpha, "degradation": limits.allowed, "correction": "bonferroni"},
        "baseline": {"rows": baseline.scored.rows if baseline.scored else 0, "sha256": _sha256(reference)},
        "realised": _realised(window, rows, selection, graded, now, label_delay_s),
        "estimated": not_estimated("no estimate was asked for"),
        "segments": segments,
        "business": business(schema, window),
        "concept_drift": concept_drift(schema, stream, baseline, before),
        "errors": errors,
    }


def _realised(
    window: Labelled,
    rows: Scored,
    selection: Selection,
    graded: dict[str, Metric],
    now: Micros,
    label_delay_s: float | None,
) -> Realised:
    """Give the entry on the rows whose outcome is known."""
    delays = label_delays(window)
    mature = is_mature(window, delays["p95"] if label_delay_s is None else label_delay_s, now)
    found: Realised = {
        "labelled": rows.rows,
        "coverage": rows.rows / window.rows if window.rows else None,
        "mature": mature and not selection.missing,
        "label_delay_seconds": delays,
        "metrics": graded,
    }
    found = cast("Realised", found | by_class(rows))
    if selection.found:
        found["selection"] = selection.report(rows.schema)
    return found


def is_same_look(window: Labelled, before: PerformanceReport) -> bool:
    """Tell whether a report is of this window with as many outcomes.

    Asked again, a check says the same.
    """
    seen, came = before.get("window", {}), sum(outcome is not None for outcome in window.outcomes)
    if not window.rows or "limits" not in before:
        return False
    labelled = before.get("realised", {}).get("labelled")
    return (window.rows, to_rfc3339(window.predicted_at[-1]), came) == (seen.get("rows"), seen.get("to"), labelled)


def _grade(
    judge: Judge,
    rows: Scored,
    baseline: Baseline,
    before: PerformanceReport | None,
    errors: list[MetricError],
    selection: Selection,
) -> dict[str, Metric]:
    found = rows.measure()
    undefined = [name for name, metric in found.items() if metric.value is None]
    errors += [{"metric": name, "reason": "undefined for the outcomes of this window"} for name in undefined]
    was = before.get("realised", {}).get("metrics", {}) if before else {}
    told = selection.withhold(rows.schema, found)
    return _withheld(selection, rows.schema, judge.grade(told, baseline.measured, was, rows=rows.rows))


def _withheld(selection: Selection, schema: ModelSchema, graded: dict[str, Metric]) -> dict[str, Metric]:
    """Say why metrics are not told; of those between worst and best case, a certain loss stays."""
    known = selection.known(schema)
    if known is None:
        return graded
    why = selection.reason(schema)
    for name, metric in graded.items():
        if name not in known and metric["status"] != "degraded":
            metric["status"], metric["withheld"] = "insufficient_data", why
    return graded


def _segments(
    judge: Judge,
    rows: Scored,
    labelled: NDArray[np.bool_],
    parts: list[Segment],
    before: PerformanceReport | None,
    selection: Selection,
    pause: Pause,
) -> dict[str, dict[str, SegmentMetrics]]:
    """Grade each segment against the reference's rows of the same kind."""
    found: dict[str, dict[str, SegmentMetrics]] = {}
    earlier = before.get("segments", {}) if before else {}
    for part in parts:
        pause()
        own = rows.only(part.rows[labelled])
        was = earlier.get(part.name, {}).get(part.value)
        told = selection.withhold(rows.schema, own.measure())
        metrics = judge.grade(told, part.baseline, was["metrics"] if was else {}, rows=own.rows)
        metrics = _withheld(selection, rows.schema, metrics)
        found.setdefault(part.name, {})[part.value] = {
            "rows": int(part.rows.sum()),
            "labelled": own.rows,
            "status": overall(metrics.values()),
            "metrics": metrics,
        }
    return found


def _each(segments: Mapping[str, Mapping[str, SegmentMetrics]]) -> Iterator[SegmentMetrics]:
    return chain.from_iterable(values.values() for values in segments.values())


def _comparable(previous: PerformanceReport | None, reference: Reference | None) -> PerformanceReport | None:
    """Take the look before; one against another reference says nothing about this one."""
    same = previous is not None and previous.get("baseline", {}).get("sha256") == _sha256(reference)
    return previous if same else None


def _sha256(reference: Reference | None) -> str | None:
    return None if reference is None else reference.sha256


def not_estimated(reason: str | None) -> Estimated:
    """Give an estimate of nothing, and say why."""
    return {
        "rows": 0,
        "method": None,
        "reason": reason,
        "status": "insufficient_data",
        "metrics": {},
        "shift": None,
        "unseen_region_share": None,
        "caveats": [],
        "comparison": None,
        "track_record": None,
    }


def _message(labelled: int, limits: Degradation, baseline: Baseline) -> str | None:
    """Say what a verdict is missing."""
    if labelled < limits.min_labelled:
        return f"{labelled} rows have outcomes, {limits.min_labelled} are needed"
    return baseline.missing


CONFIDENCE = 0.95


def beside(schema: ModelSchema, answers: Mapping[str, Sequence[Pair]]) -> dict[str, Versus]:
    """Compare a shadow with each version whose rows it repeated.

    ``agreement`` is the share of rows with the same label, in regression ``mean_difference`` that of the numbers, in
    the unit of the target. ``advantage`` is how much better the shadow is on the rows whose outcome is known: the mean
    over rows of the shadow's score less the champion's, where a score is 1 for a right label and 0 for a wrong one, in
    regression the negative absolute error. Its interval is of the paired differences, which is much narrower than two
    intervals side by side, since both answered the same rows: Student (1908), doi:10.1093/biomet/6.1.1, with the
    skewness of the differences transformed away (see :class:`app.statistics.intervals.Mean`).

    >>> schema = ModelSchema("m", "2", Task.BINARY, (), classes=(0, 1), positive=1)
    >>> pairs = [Pair(1, 1, 1), Pair(1, 0, 1), Pair(0, 0, None), Pair(0, 1, 0)] * 25
    >>> found = beside(schema, {"1": pairs})["1"]
    >>> found["agreement"], found["labelled"], {name: round(each, 2) for name, each in found["advantage"].items()}
    (0.5, 75, {'value': 0.67, 'low': 0.55, 'high': 0.77})
    """
    return {version: _compare(schema, pairs) for version, pairs in answers.items()}


def _compare(schema: ModelSchema, pairs: Sequence[Pair]) -> Versus:
    answers, others, truths = zip(*pairs, strict=True)
    shadow, champion = encode_labels(schema, answers), encode_labels(schema, others)
    outcome, _ = encode_outcomes(schema, truths)
    numbers = schema.task is Task.REGRESSION
    labelled = known(schema, outcome)
    gains = _gains(shadow[labelled], champion[labelled], outcome[labelled], numbers=numbers)
    return {
        "rows": len(pairs),
        "agreement": None if numbers else float((shadow == champion).mean()),
        "mean_difference": float(np.abs(shadow - champion).mean()) if numbers else None,
        "labelled": len(gains),
        "advantage": _mean(gains) if len(gains) > 1 else None,
    }


def _gains(shadow: NDArray[Any], champion: NDArray[Any], outcome: NDArray[Any], *, numbers: bool) -> FloatArray:
    """Give how much better each answer of the shadow is."""
    scores = [-np.abs(each - outcome) if numbers else (each == outcome) for each in (shadow, champion)]
    return np.asarray(scores[0], dtype=np.float64) - np.asarray(scores[1], dtype=np.float64)


def _mean(gains: FloatArray) -> Interval:
    mean = Mean.of(gains)
    low, high = dependent(mean, of_mean(gains)).bounds(CONFIDENCE)
    return {"value": mean.value, "low": low, "high": high}
