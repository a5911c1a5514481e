"""The performance report.

It has realised and estimated metrics, segments, business value and concept drift.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from app.reports.drift import Accepted, Role

Grade: TypeAlias = Literal["ok", "degraded", "improved", "insufficient_data"]


Basis: TypeAlias = Literal["realised", "estimated", "none"]


class MetricError(TypedDict):
    """Something that a performance check could not do; ``metric`` is null for all of them."""

    metric: str | None
    reason: str


class Interval(TypedDict):
    """A value with its confidence interval.

    The value is null where it is undefined, a bound where it is not finite.
    """

    value: float | None
    low: float | None
    high: float | None


class Withheld(TypedDict):
    """The reason why something is not told, and what would make it possible."""

    reason: str
    needs: str


class Metric(Interval):
    """A metric against its baseline and its limit."""

    baseline: float | None
    limit: float | None
    status: Grade
    since: NotRequired[str]
    """When it was first seen degraded."""
    last_degraded_at: NotRequired[str]
    withheld: NotRequired[Withheld]
    """Present where there is no verdict: why, and what would make it possible."""


class ClassMetrics(TypedDict):
    """One class: rows whose truth it is, and how well they are found."""

    support: int
    precision: Interval
    recall: Interval


class ConfusionMatrix(TypedDict):
    """Truths (down) against predictions (across)."""

    labels: list[str]
    counts: list[list[int]]


class UnknownClasses(TypedDict):
    """Outcomes of classes that the model lacks; each counts as a wrong answer."""

    rows: int
    share: float
    """Of the outcomes that came."""
    classes: dict[str, int]
    message: str


class ByClass(TypedDict):
    """The metrics of each class; absent in regression and without outcomes."""

    confusion_matrix: NotRequired[ConfusionMatrix]
    classes: NotRequired[dict[str, ClassMetrics]]
    unknown_classes: NotRequired[UnknownClasses]
    """Absent where the model knows the class of every outcome."""


class LabelDelay(TypedDict):
    """Seconds within which half, and 95 %, of the outcomes came."""

    p50: float | None
    p95: float | None


class GroupCoverage(TypedDict):
    """The rows with one answer, and those of them with an outcome."""

    rows: int
    labelled: int


class LabelSelection(TypedDict):
    """The way in which labels are not a random part of the rows."""

    weighted: bool
    """Whether metrics are weighted by the inverse of each group's coverage."""
    coverage: dict[str, GroupCoverage]
    """By what was predicted."""
    withheld: Withheld | None


class AbsentOutcomes(TypedDict):
    """Rows without an outcome that count as a label: ``outcomes.absent_means``."""

    label: str | int | float | bool
    after_seconds: float
    rows: int


class Realised(ByClass):
    """Performance on the rows whose outcome is known."""

    labelled: int
    coverage: float | None
    mature: bool
    """Whether even the newest row has had the time that outcomes take."""
    label_delay_seconds: LabelDelay
    metrics: dict[str, Metric]
    selection: NotRequired[LabelSelection]
    """Absent where labels are a random part of the rows, or all."""
    absent: NotRequired[AbsentOutcomes]
    """Present where ``outcomes.absent_means`` is set."""


class CovariateShift(TypedDict):
    """The distance of the window's inputs from the reference's."""

    auc: float
    shifted: bool
    reference_rows: int
    effective_reference_rows: float


class ComparedMetric(TypedDict):
    """An estimate beside the realised metric of the same rows."""

    estimated: float | None
    low: float | None
    high: float | None
    realised: float | None
    difference: float | None
    within: bool | None
    """Whether the interval holds the realised value."""


class EstimateComparison(TypedDict):
    """Estimates beside outcomes."""

    rows: int
    metrics: dict[str, ComparedMetric]


class TrackRecord(TypedDict):
    """The errors of the estimate in earlier runs of rows."""

    chunks: int
    rows_per_chunk: int
    mean_absolute_error: dict[str, float]


class EstimatedSegment(TypedDict):
    """The rows of one value of a segment, estimated."""

    rows: int
    status: Grade
    metrics: dict[str, Metric]


class Estimated(TypedDict):
    """Performance estimated without outcomes; ``reason`` says why it could not be."""

    rows: int
    method: str | None
    reason: str | None
    status: Grade
    metrics: dict[str, Metric]
    segments: NotRequired[dict[str, dict[str, EstimatedSegment]]]
    """Absent without segments that are features."""
    shift: CovariateShift | None
    unseen_region_share: float | None
    """Share of the rows where the reference has almost none."""
    caveats: list[str]
    comparison: EstimateComparison | None
    track_record: TrackRecord | None


class SegmentMetrics(TypedDict):
    """The rows of one value of a segment."""

    rows: int
    labelled: int
    status: Grade
    metrics: dict[str, Metric]


class Amounts(TypedDict):
    """Business values that came with outcomes: their number, sum and mean."""

    value_count: int
    value_sum: float | None
    value_mean: float | None
    value_mean_low: float | None
    value_mean_high: float | None
    reason: NotRequired[str]
    """Why there is no sum although there are values."""


class Business(Amounts):
    """Business values, also by what was predicted."""

    by_prediction: dict[str, Amounts]


_ConceptDrift = TypedDict("_ConceptDrift", {"from": str | None})


class ConceptDrift(_ConceptDrift):
    """A change in the stream of errors, found by ADWIN."""

    method: Literal["adwin"]
    change_at: str | None
    direction: Literal["worse", "better"] | None
    error_before: float | None
    error_now: float | None
    rows: int


class Versus(TypedDict):
    """A shadow beside the version that answered, on the same rows."""

    rows: int
    agreement: float | None
    """Share of rows with the same label; null in regression."""
    mean_difference: float | None
    labelled: int
    advantage: Interval | None
    """How much better the shadow is, by row."""


_LabelledWindow = TypedDict("_LabelledWindow", {"from": str | None, "to": str | None})


class PerformanceWindow(_LabelledWindow):
    """The rows that are looked at, by their prediction time."""

    rows: int
    sampled_from: int


class PerformanceLimits(TypedDict):
    """The limits between a worse model and noise in this look."""

    alpha_per_look: float
    degradation: float
    correction: str


class BaselineSummary(TypedDict):
    """The reference that the baseline metrics come from."""

    rows: int
    sha256: str | None


class PerformanceReport(TypedDict):
    """The body of a performance report."""

    role: NotRequired[Role]
    accepted: NotRequired[list[Accepted]]
    """What was accepted as the new normal; absent without any."""
    status: Grade
    basis: Basis
    """The figures that the status stands on: outcomes if they allow a verdict, else the estimate."""
    message: str | None
    """What a verdict is missing."""
    window: PerformanceWindow
    limits: PerformanceLimits
    baseline: BaselineSummary
    realised: Realised
    estimated: Estimated
    segments: dict[str, dict[str, SegmentMetrics]]
    business: Business
    concept_drift: ConceptDrift
    errors: list[MetricError]
    beside: NotRequired[dict[str, Versus]]
    """Of a shadow: each version whose rows it repeated."""
