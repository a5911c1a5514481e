"""The drift report.

It has one entry for each column, that is a feature, the prediction, or the probability that is watched.

A TypedDict is a plain dictionary at run time: it costs nothing, and a stored report keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, TypeAlias

from typing_extensions import TypedDict

from app.figures.drift import Distances, UnusualRows

Severity: TypeAlias = Literal["minor", "moderate", "severe"]
Role: TypeAlias = Literal["active", "shadow"]


class CheckError(TypedDict):
    """Something that a drift check could not do; the rest of the report stands."""

    feature: str | None
    """The column; null for the whole check."""
    reason: str


class FailedCheck(TypedDict):
    """A check, of drift or of performance, that failed as a whole."""

    role: NotRequired[Role]
    status: Literal["error"]
    errors: list[CheckError]


class Histogram(TypedDict):
    """Rows per bin.

    Bins lie between ``edges`` for a number; for a number of few values and for categories each value is a bin.
    """

    edges: NotRequired[list[float]]
    """Upper bounds, inclusive; the last bin is open, so there is one edge less than there are counts."""
    categories: NotRequired[list[str | int | float | bool]]
    counts: list[int]
    other: NotRequired[int]
    unseen: NotRequired[int]
    """Rows of categories that the schema does not know."""
    missing: int


class ColumnSummary(TypedDict):
    """One side of a comparison; only numbers have a mean and a standard deviation."""

    mean: NotRequired[float | None]
    std: NotRequired[float | None]
    missing_share: float | None
    histogram: Histogram


class ColumnStatistics(Distances):
    """The statistics of one column."""

    p_value: float
    """Corrected over the tests of this column."""
    adjusted_p_value: float | None
    """Corrected over the tests of all columns: the one that decides."""
    test: str
    tests: Mapping[str, float]
    """The p-value of each test, not corrected."""
    impact: float
    """PSI above noise; of features times how much the model's answer depends on them: it ranks causes."""
    effective_rows: int
    """Independent rows that the window is worth."""
    inflation: float
    """How many times larger the variance is than that of independent rows."""
    current: ColumnSummary
    reference: ColumnSummary


class Judged(ColumnStatistics):
    """A verdict."""

    status: Literal["stable", "drift"]
    severity: Severity | None
    significant: bool
    """Whether this very window shows the drift."""
    reason: str | None
    since: NotRequired[str | None]
    """When the drift opened; absent in a comparison of two files."""
    last_significant_at: NotRequired[str | None]
    """When the drift was last shown; absent in a comparison of two files."""


class Unjudged(ColumnStatistics):
    """Statistics that allow no verdict, and why."""

    status: Literal["insufficient_data", "withheld"]
    severity: None
    reason: str


class Failed(TypedDict):
    """A comparison that failed; ``errors`` of the report says why."""

    status: Literal["error"]


Verdict: TypeAlias = Judged | Unjudged | Failed


class JudgedColumn(Judged):
    """A column with a verdict."""

    type: str
    effect: NotRequired[float]
    """PSI above noise; of features only."""


class UnjudgedColumn(Unjudged):
    """A column whose statistics allow no verdict."""

    type: str
    effect: NotRequired[float]
    """PSI above noise; of features only."""


class FailedColumn(Failed):
    """A column that could not be compared."""

    type: str


Column: TypeAlias = JudgedColumn | UnjudgedColumn | FailedColumn


class JudgedPrediction(JudgedColumn):
    """The model's answers, with a verdict."""

    probability: Column | None
    """The probability that is watched; null where the model gives none."""


class UnjudgedPrediction(UnjudgedColumn):
    """The model's answers, whose statistics allow no verdict."""

    probability: Column | None


class FailedPrediction(FailedColumn):
    """The model's answers, where they could not be compared."""

    probability: Column | None


Prediction: TypeAlias = JudgedPrediction | UnjudgedPrediction | FailedPrediction


class JointFeature(TypedDict):
    """A feature's share in what the domain classifier tells the window by."""

    feature: str
    share: float


class EntitySummary(TypedDict):
    """The groups of rows, such as users, that the window is a sample of."""

    name: str
    """A feature, or a key of the context."""
    configured: bool
    """Whether ``drift.entity`` names it; else its rows gave it away."""
    entities: int
    """Different ones in the window."""


class UnjudgedFeature(TypedDict):
    """A feature without a verdict."""

    feature: str
    because: str
    since: NotRequired[str]
    """The end of the first window without one; absent in a comparison of two files."""


class JointDrift(TypedDict):
    """The domain classifier: whether the features together give the window away."""

    test: str
    auc: float | None
    p_value: float | None
    status: Literal["stable", "drift", "insufficient_data", "not_run"]
    reason: str
    significant: NotRequired[bool]
    since: NotRequired[str | None]
    last_significant_at: NotRequired[str | None]
    material_auc: NotRequired[float]
    """The AUC from which on a difference matters."""
    alpha: NotRequired[float]
    features: list[JointFeature]
    left_out: NotRequired[list[str]]
    """Features whose rows depend on each other so much that they would blind the test; absent in older reports."""


class QualityFinding(TypedDict):
    """One thing that is wrong with the data; ``value`` has reached ``limit``."""

    feature: str | None
    kind: str
    check: NotRequired[str]
    """The test that found it; absent where it has the name of the kind."""
    value: float | None
    limit: float | None
    message: str


class DataQuality(TypedDict):
    """The quality of the window's data."""

    status: Literal["ok", "warning", "insufficient_data"]
    findings: list[QualityFinding]


class SeasonalColumn(TypedDict):
    """A column that is compared with reference rows of the same weekday or hour."""

    feature: str
    weekday: bool
    hour: bool
    rows: int


class Seasonal(TypedDict):
    """Whether the reference is taken of the window's season, and for which columns."""

    status: Literal["used", "none"]
    reason: str
    columns: NotRequired[list[SeasonalColumn]]


class BriefColumn(TypedDict):
    """A column of a second reading, in short."""

    status: Literal["stable", "drift", "insufficient_data"]
    reason: NotRequired[str]
    severity: Severity | None
    p_value: float
    adjusted_p_value: float | None
    test: str
    psi: float
    psi_noise_floor: float
    ks_statistic: float | None
    wasserstein: float | None
    js_distance: float


Brief: TypeAlias = BriefColumn | Failed
_Span = TypedDict("_Span", {"rows": int, "from": str | None, "to": str | None})


class EarlierWindow(_Span):
    """The rows of the window before, by their prediction time."""


class PreviousWindow(TypedDict):
    """The same window against the one before; for people, it alarms nobody."""

    compared_with: str
    window: EarlierWindow
    status: Literal["stable", "drift", "insufficient_data"]
    reason: NotRequired[str]
    drifted_features: list[str]
    features: dict[str, Brief]
    prediction: Brief | None


class DriftSegment(TypedDict):
    """The rows of one value of a segment, against the reference's rows of the same value."""

    rows: int
    reference_rows: int
    status: Literal["stable", "drift", "insufficient_data"]
    reason: NotRequired[str]
    drifted_features: list[str]
    features: dict[str, Brief]
    """Those that drifted."""


class DriftSegments(TypedDict):
    """The values of one segment; ``reason`` says why there are none."""

    reason: str | None
    values: dict[str, DriftSegment]


class DriftWindow(_Span):
    """The rows that are looked at, by their prediction time; ``sampled_from`` so many."""

    hours: float
    sampled_from: int
    effective_rows: int
    """Independent rows that they are worth."""


class ReferenceSummary(TypedDict):
    """The reference; ``in_sample``: the model was fitted on it."""

    rows: int
    created_at: str
    sha256: str
    in_sample: bool


class AlphaParts(TypedDict):
    """Parts of alpha for tests of whole distributions and of single shares."""

    shape: float
    single_shares: float


class Calibration(TypedDict):
    """Whether the reference can keep ``false_alarm_every``; else the reason."""

    calibrated: bool
    reason: str | None


class DriftLimits(Calibration):
    """The limits between drift and noise in this look."""

    false_alarm_every: str | None
    """An ISO 8601 duration; null in a comparison of two files."""
    alpha_per_look: float
    material_psi: float
    correction: str
    parts_of_alpha: AlphaParts
    min_rows: int


class AcceptedPart(TypedDict):
    """One thing that was accepted: a feature, a finding, a metric."""

    what: str
    value: float | None
    status: Literal["held", "exceeded"]
    """Exceeded: it is worse than the accepted state, and alarms as ever."""
    was_found: bool
    """Whether it was a finding then; else it is compared with its value of then, should it become one."""


class Accepted(TypedDict):
    """A state that somebody accepted as the new normal by ``POST /alerts/{id}/accept``."""

    alert_id: str
    rule: str
    accepted_at: str
    accepted_by: str | None
    reason: str
    report_id: str
    parts: list[AcceptedPart]


class DriftReport(TypedDict):
    """The body of a drift report."""

    role: NotRequired[Role]
    accepted: NotRequired[list[Accepted]]
    """What was accepted as the new normal; absent without any."""
    window: DriftWindow
    reference: ReferenceSummary | None
    entity: NotRequired[EntitySummary | None]
    """Null where each row is a sample by itself; absent in older reports."""
    judged_share: NotRequired[float | None]
    """The share of features with a verdict; absent in older reports."""
    unjudged: NotRequired[list[UnjudgedFeature]]
    """The features without one; absent in older reports."""
    drift_share: float | None
    drifted_features: list[str]
    """The largest impact first."""
    limits: DriftLimits
    features: dict[str, Column]
    prediction: Prediction | None
    multivariate: JointDrift
    unusual_rows: NotRequired[UnusualRows]
    """Absent in older reports."""
    seasonal: Seasonal
    data_quality: DataQuality
    previous_window: PreviousWindow | None
    segments: dict[str, DriftSegments]
    errors: list[CheckError]
    status: Literal["stable", "drift", "insufficient_data", "no_reference"]
    message: NotRequired[str]
    """What is missing, where there is no verdict."""
    target: NotRequired[str | None]
    """The column that was judged like a model's answer in a comparison of two files."""
