"""Performance estimated without labels, with its track record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import describe_error
from app.figures.performance import METRIC
from app.monitoring.estimation.classification import Confidence
from app.monitoring.estimation.regression import LossModel
from app.monitoring.estimation.samples import Sample, Shift, measure_shift, reference_sample, window_sample
from app.monitoring.performance.degradation import GROUPS, SHOWN_CONFIDENCE, Degradation, Judge, baseline_of, overall
from app.monitoring.performance.label_selection import select
from app.monitoring.performance.metrics import metrics
from app.monitoring.performance.report import MAX_SEGMENT_VALUES, not_estimated
from app.monitoring.performance.scoring import Measured, Scored
from app.monitoring.performance.scoring import known as label_mask
from app.monitoring.reference.columns import UNSEEN, finite
from app.monitoring.reference.reference import Reference
from app.reports.performance import (
    ComparedMetric,
    EstimateComparison,
    Estimated,
    EstimatedSegment,
    Metric,
    PerformanceReport,
    TrackRecord,
)
from app.statistics.intervals import Moved
from app.store.database import Pause, no_pause
from app.store.queries.windows import Window
from app.types import FeatureType, Label, ModelSchema, Task, label_key, to_rfc3339


class Estimator(Protocol):
    """Estimates the metrics of one window."""

    @property
    def method(self) -> str:
        """Give the method of the estimate."""

    def values(self, rows: NDArray[np.bool_]) -> Mapping[str, float]:
        """Estimate each metric over some of the rows; NaN where it is undefined."""

    def measured(self, rows: NDArray[np.bool_] | None = None) -> Mapping[str, Measured]:
        """Estimate each metric over some rows, or all, with its interval."""


def estimator_of(reference: Sample, window: Sample, shift: Shift, pause: Pause = no_pause) -> Estimator:
    """Choose the estimate that fits the task; every outcome of the reference is known."""
    regression = window.answers.schema.task is Task.REGRESSION
    return (LossModel if regression else Confidence)(reference, window, shift, pause)


_MAX_CHUNKS, _MIN_CHUNK_ROWS = 10, 100


def comparison(estimates: Mapping[str, Measured], answers: Scored) -> EstimateComparison:
    """Put each estimate beside the realised metric of the same rows.

    ``within`` tells whether its band held the truth.
    """
    realised = _realised(answers)
    return {
        "rows": answers.rows,
        "metrics": {
            name: _beside(each, realised[name]) for name, each in estimates.items() if realised.get(name) is not None
        },
    }


def track_record(
    estimate: Callable[[NDArray[np.bool_]], Mapping[str, float]], answers: Scored, pause: Pause = no_pause
) -> TrackRecord | None:
    """Average the distance of estimate and truth over runs of rows in time order.

    There are up to ten runs of a hundred rows or more.

    None where there are too few for two. One window has one truth; its parts show how far an estimate is usually off.
    Part of the distance is chance in the truth itself, which no estimate can foresee.
    """
    chunks = min(answers.rows // _MIN_CHUNK_ROWS, _MAX_CHUNKS)
    if chunks < 2:  # noqa: PLR2004 - one is the comparison itself
        return None
    place = np.arange(answers.rows) * chunks // answers.rows
    distances: dict[str, list[float]] = {}
    for chunk in range(chunks):
        pause()
        realised = _realised(answers.only(place == chunk))
        for name, value in estimate(place == chunk).items():
            truth = realised.get(name)
            if truth is not None and np.isfinite(value):
                distances.setdefault(name, []).append(abs(value - truth))
    return {
        "chunks": chunks,
        "rows_per_chunk": answers.rows // chunks,
        "mean_absolute_error": {name: float(np.mean(found)) for name, found in distances.items()},
    }


def _realised(answers: Scored) -> Mapping[str, float | None]:
    return metrics(answers.schema, answers.outcomes, answers.predictions, answers.probabilities)


def _beside(estimate: Measured, realised: float | None) -> ComparedMetric:
    low, high = (None, None) if estimate.interval is None else estimate.interval.bounds(SHOWN_CONFIDENCE)
    compared: ComparedMetric = {
        "estimated": estimate.value,
        "low": low,
        "high": high,
        "realised": realised,
        "difference": None,
        "within": None,
    }
    if estimate.value is None or realised is None or low is None or high is None:
        return compared
    return compared | {"difference": finite(estimate.value - realised), "within": low <= realised <= high}


MAX_ESTIMATED_ROWS = 10_000
"""Rows of a window that an estimate looks at."""
_UNSEEN_MATTERS = 0.05
_MIN_EFFECTIVE_ROWS = 100
_SURPRISING, _BAND = 3.0, 3.92
"""Errors by which an estimate must be off to teach something, and errors in a band of 95 %."""


def estimated(
    schema: ModelSchema,
    reference: Reference,
    latest: Window,
    mature: Window,
    limits: Degradation,
    *,
    segments: Sequence[int] = (),
    previous: PerformanceReport | None = None,
    pause: Pause = no_pause,
) -> Estimated:
    """Estimate the metrics of the ``latest`` rows.

    Estimates of the ``mature`` rows are compared with their outcomes.

    A function of its arguments alone; ``segments`` are positions of features, and ``previous`` is the report of the
    look before. Where nothing can be estimated, ``reason`` says why.
    """
    try:
        known, window = reference_sample(reference), window_sample(schema, latest)
        if (reason := _missing(reference, known, window, limits)) is not None or known is None:
            return not_estimated(reason)
        start, end = to_rfc3339(latest.predicted_at[0]), to_rfc3339(latest.predicted_at[-1])
        parts, before = _segments_of(window, segments), _before(previous, reference)
        judge = Judge(limits, GROUPS * (1 + len(parts)), start, end, "rows")
        proof = _prove(known, window_sample(schema, mature), limits, pause)
        shift = measure_shift(known.inputs, window.inputs, pause)
        used = shift if proof.weighted else shift.ignored
        estimator = Corrected(estimator_of(known, window, used, pause), proof.missed)
        was = before["metrics"] if before else {}
        graded = judge.grade(estimator.measured(), baseline_of(reference).measured, was, rows=window.rows)
        found = _found(known, window, shift, estimator.method, graded)
        if parts:
            found = _by_segment(found, reference, judge, estimator, parts, before)
        found["caveats"] += proof.caveats
        return found | {"comparison": proof.comparison, "track_record": proof.track_record}
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the estimate, realised performance is reported
        return not_estimated(f"not estimated: {describe_error(error)}")


def with_estimate(report: PerformanceReport, found: Estimated) -> PerformanceReport:
    """Add the estimate, which is the basis of the status where outcomes allow none."""
    if report["basis"] == "none" and found["status"] != "insufficient_data":
        report["status"], report["basis"] = found["status"], "estimated"
    report["estimated"] = found
    return report


def _found(known: Sample, window: Sample, shift: Shift, method: str, graded: dict[str, Metric]) -> Estimated:
    unseen = float((shift.unseen | window.strange).mean())
    return not_estimated(None) | {
        "rows": window.rows,
        "method": method,
        "status": overall(graded.values()),
        "metrics": graded,
        "shift": {
            "auc": shift.auc,
            "shifted": shift.shifted,
            "reference_rows": known.rows,
            "effective_reference_rows": shift.effective_rows,
        },
        "unseen_region_share": unseen,
        "caveats": _caveats(shift, unseen),
    }


def _missing(reference: Reference, known: Sample | None, window: Sample, limits: Degradation) -> str | None:
    """Say why nothing can be estimated; None where something can."""
    schema = reference.schema
    if known is None or not known.rows:
        return "the reference has no outcomes to learn from"
    if reference.in_sample:
        return "the reference is data that the model was fitted on"
    if schema.task is not Task.REGRESSION:
        if known.answers.probabilities is None or (window.rows and window.answers.probabilities is None):
            return "the model gives no probabilities"
        if len(np.unique(known.answers.outcomes)) < len(schema.classes):
            return "the reference has no outcomes of some class"
    for name, sample in (("reference", known), ("window", window)):
        if sample.rows < limits.min_labelled:
            return f"the {name} has {sample.rows} rows to learn from, {limits.min_labelled} are needed"
    return None


class Missed(NamedTuple):
    """Estimate less truth where outcomes came, and the standard error of that."""

    difference: float
    error: float


@dataclass(frozen=True, slots=True)
class _Proof:
    """The record of the estimate over older rows whose outcomes have come, and what it teaches.

    Attributes:
        weighted: whether weights may be used.
        missed: by metric, how far the estimate was off, where that is no chance.
    """

    comparison: EstimateComparison | None = None
    track_record: TrackRecord | None = None
    weighted: bool = True
    missed: Mapping[str, Missed] = field(default_factory=dict)

    @property
    def caveats(self) -> list[str]:
        """Say what was learned."""
        found = []
        if self.missed:
            names = ", ".join(self.missed)
            found.append(
                f"the relation has changed: over older rows whose outcomes came, {names} was off by more than its "
                "band; the estimate is corrected by that difference, and the band is wider by its error"
            )
        if not self.weighted:
            found.append("weights are not used: with them the estimate of those rows was further off")
        return found


def _prove(reference: Sample, mature: Sample, limits: Degradation, pause: Pause) -> _Proof:
    """Compare the estimate with the truth over rows whose outcomes have come, and learn from it.

    Where weights made the estimate worse than its band allows, they are not used. Nothing is learned where those rows
    are no random part of the window, since their truth is not that of all.
    """
    labelled = mature.labelled
    if labelled.rows < limits.min_labelled:
        return _Proof()
    shift = measure_shift(reference.inputs, labelled.inputs, pause)
    estimator = estimator_of(reference, labelled, shift, pause)
    found = comparison(estimator.measured(), labelled.answers)
    record = track_record(estimator.values, labelled.answers, pause)
    known = label_mask(mature.answers.schema, mature.answers.outcomes)
    if select(mature.answers, known, {}, reference.whole or reference.answers).found:
        return _Proof(found, record)
    missed = _missed(found)
    if not shift.shifted or not missed:
        return _Proof(found, record, missed=missed)
    plain = comparison(estimator_of(reference, labelled, shift.ignored, pause).measured(), labelled.answers)
    closer = [abs(_distance(plain, name)) < abs(_distance(found, name)) for name in missed]
    if 2 * sum(closer) <= len(closer):
        return _Proof(found, record, missed=missed)
    return _Proof(found, record, weighted=False, missed=_missed(plain))


def _distance(found: EstimateComparison, name: str) -> float:
    return found["metrics"][name]["difference"] or 0.0


def _missed(found: EstimateComparison) -> dict[str, Missed]:
    """Give how far estimates were off, where that is no chance."""
    missed = {}
    for name, each in found["metrics"].items():
        if each["difference"] is not None and each["low"] is not None and each["high"] is not None:
            error = (each["high"] - each["low"]) / _BAND
            if abs(each["difference"]) > _SURPRISING * error:
                squares = each["difference"] * each["difference"] + error * error
                missed[name] = Missed(each["difference"], error) if np.isfinite(squares) else Missed(0.0, np.inf)
    return missed


@dataclass(frozen=True, slots=True)
class Corrected:
    """An estimator that is corrected by what its record has shown.

    The record is of all rows: a segment may have changed more or less, so that its band holds the whole difference.
    """

    estimator: Estimator
    missed: Mapping[str, Missed]

    @property
    def method(self) -> str:
        """Give the method of the estimate."""
        return self.estimator.method

    def values(self, rows: NDArray[np.bool_]) -> Mapping[str, float]:
        """Estimate each metric over some of the rows; NaN where it is undefined."""
        return {name: self._moved(name, value) for name, value in self.estimator.values(rows).items()}

    def measured(self, rows: NDArray[np.bool_] | None = None) -> Mapping[str, Measured]:
        """Estimate each metric over some rows, or all, with its wider interval."""
        found = self.estimator.measured(rows)
        return {name: self._corrected(name, each, whole=rows is None) for name, each in found.items()}

    def _moved(self, name: str, value: float) -> float:
        if name not in self.missed:
            return value
        return float(np.clip(value - self.missed[name].difference, *_range(name)))

    def _corrected(self, name: str, found: Measured, *, whole: bool) -> Measured:
        if name not in self.missed or found.interval is None or found.value is None:
            return found
        missed, (low, high) = self.missed[name], found.interval.bounds(SHOWN_CONFIDENCE)
        own = (high - low) / _BAND
        more = (missed.error if whole else max(missed.error, abs(missed.difference))) / own if own else 0.0
        wider = found.interval.widened(1 + more * more if np.isfinite(own) else 1.0)
        return Measured(self._moved(name, found.value), Moved(wider, -missed.difference, *_range(name)))


def _range(name: str) -> tuple[float, float]:
    """Give the least and the largest value of a metric."""
    return -np.inf if METRIC[name].better == "zero" else 0.0, 1.0 if METRIC[name].is_share else np.inf


def _caveats(shift: Shift, unseen: float) -> list[str]:
    """Say what the estimate cannot know."""
    found = ["a change in what the outcome of the same input is (concept drift) cannot be seen without outcomes"]
    if unseen >= _UNSEEN_MATTERS:
        found.append(f"{unseen:.0%} of the rows lie where the reference has almost none: there the estimate is a guess")
    if shift.shifted and shift.effective_rows < _MIN_EFFECTIVE_ROWS:
        found.append(f"the reference rows that look like the window are worth {shift.effective_rows:.0f} rows")
    return found


def _before(previous: PerformanceReport | None, reference: Reference) -> Estimated | None:
    """Give the previous estimate, or none if it is of another reference."""
    if previous is None or previous.get("baseline", {}).get("sha256") != reference.sha256:
        return None
    return previous.get("estimated")


class _Part(NamedTuple):
    """One value of a segment, and its rows."""

    feature: int
    value: Label
    rows: NDArray[np.bool_]


def _segments_of(window: Sample, features: Sequence[int]) -> list[_Part]:
    """Divide the rows by the values of features, the most frequent first."""
    found = []
    for place in features:
        feature, column = window.answers.schema.features[place], window.inputs[:, place]
        values, counts = np.unique(column[~np.isnan(column) & (column > UNSEEN)], return_counts=True)
        for value in values[np.argsort(-counts, kind="stable")][:MAX_SEGMENT_VALUES].tolist():
            label = feature.categories[int(value)] if feature.type is FeatureType.CATEGORICAL else value
            found.append(_Part(place, bool(label) if feature.type is FeatureType.BOOLEAN else label, column == value))
    return found


def _by_segment(
    found: Estimated,
    reference: Reference,
    judge: Judge,
    estimator: Estimator,
    parts: Sequence[_Part],
    before: Estimated | None,
) -> Estimated:
    """Grade the estimate of each segment against the reference's rows of the same kind."""
    entries: dict[str, dict[str, EstimatedSegment]] = {}
    earlier = before.get("segments", {}) if before else {}
    for part in parts:
        name, value, rows = reference.schema.feature_names[part.feature], label_key(part.value), int(part.rows.sum())
        baseline = baseline_of(reference).of(part.feature, part.value)
        was = earlier.get(name, {}).get(value)
        graded = judge.grade(estimator.measured(part.rows), baseline, was["metrics"] if was else {}, rows=rows)
        entries.setdefault(name, {})[value] = {"rows": rows, "status": overall(graded.values()), "metrics": graded}
    whole = [*found["metrics"].values()]
    whole += [
        metric for values in entries.values() for entry in values.values() for metric in entry["metrics"].values()
    ]
    return found | {"segments": entries, "status": overall(whole)}
