"""Values that all packages share: schema, prediction, outcome, report, ids and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from random import getrandbits
from time import time_ns
from typing import Any, Literal, NamedTuple, NewType, Protocol, TypeAlias, cast

from msgspec import Struct

from app.reports.drift import DriftReport
from app.reports.performance import PerformanceReport
from app.reports.service import ReportBody, ServiceReport

PREDICTION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What a caller may choose as ``prediction_id``."""


def new_id(now_ns: int | None = None) -> str:
    """Make a new UUIDv7.

    ``now_ns`` is the time in nanoseconds since the epoch, by default the clock's.

    The 12 bits after the milliseconds carry their fraction (RFC 9562, method 3), so that ids made within one
    millisecond still sort nearly in the order in which they were made.

    >>> new_id(1_700_000_000_000_000_000)[:15]
    '018bcfe5-6800-7'
    """
    milliseconds, rest = divmod(time_ns() if now_ns is None else now_ns, 1_000_000)
    return "%08x-%04x-7%03x-%04x-%012x" % (  # noqa: UP031 - faster than an f-string
        milliseconds >> 16,
        milliseconds & 0xFFFF,
        (rest << 12) // 1_000_000,
        getrandbits(14) | 0x8000,
        getrandbits(48),
    )


Scalar: TypeAlias = str | int | float | bool | None
"""One feature's value as JSON can carry it; a missing value is None."""
Label: TypeAlias = str | int | float | bool
"""A class label, or a number in regression."""
Row: TypeAlias = Sequence[Scalar]
"""One row of features in schema order."""
Micros = NewType("Micros", int)
"""Microseconds since the Unix epoch, UTC."""
Json: TypeAlias = dict[str, Any]
"""A JSON object on its way in or out."""
Role: TypeAlias = Literal["active", "shadow"]
"""Whether a version's answers leave the service, or are only kept to be compared."""
Severity: TypeAlias = Literal["critical", "high", "medium", "low"]
"""How soon somebody must act on an alert."""

MAX_TEXT = 1024
"""Most characters of a text in a request, unless the training data had longer ones."""
SECOND = 1_000_000
"""Micros in a second."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Task(StrEnum):
    """Name the kind of answers that a model gives."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class FeatureType(StrEnum):
    """Name how a feature's values are read and compared."""

    NUMERIC = "numeric"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORICAL = "categorical"

    @property
    def is_number(self) -> bool:
        """True where values have an order and a distance."""
        return self in (FeatureType.NUMERIC, FeatureType.INTEGER)


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of the model.

    Attributes:
        categories: the known values of a categorical feature (text, or integers for coded ones); others are
            monitored, not refused.
        low, high: the bounds seen in the reference; values outside them are monitored, not refused.
        nullable: whether the model takes a missing value; null is refused where it does not.
        allowed: the only values that the model has an answer to, where others make it fail; empty: no such limit.
        max_length: most characters of a text.
    """

    name: str
    type: FeatureType
    nullable: bool = False
    categories: tuple[str | int, ...] = ()
    low: float | None = None
    high: float | None = None
    allowed: tuple[str | int | float | bool, ...] = ()
    max_length: int = MAX_TEXT


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """Describe what a model version takes and answers.

    Attributes:
        features: in the order in which the model takes them.
        classes: the labels in the order of the model's probabilities; empty in regression.
        positive: the label that counts as positive in a binary task.
        threshold: probability of ``positive`` from which it is predicted; None means the model's own rule.
    """

    name: str
    version: str
    task: Task
    features: tuple[Feature, ...]
    classes: tuple[Label, ...] = ()
    positive: Label | None = None
    threshold: float | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names, in order."""
        return tuple(feature.name for feature in self.features)


@dataclass(frozen=True, slots=True)
class ServedVersions:
    """The versions that a replica serves at one moment.

    It never changes, so that every thread may read it.

    Attributes:
        active: the version that answers.
        schemas: the schema of each loaded version and of each shadow, by version.
    """

    active: ModelSchema
    schemas: Mapping[str, ModelSchema]


@dataclass(frozen=True, slots=True)
class Watched:
    """A model version that checks look at."""

    schema: ModelSchema
    folder: Path
    role: Role = "active"


class VersionSource(Protocol):
    """Knows which versions a replica serves."""

    def served(self) -> ServedVersions:
        """The versions of this moment. Call it in the event loop, which activates versions."""


class Answer(Struct, frozen=True, gc=False):
    """Hold the model's answer to one row.

    ``probabilities`` are in the order of the schema's classes.
    """

    prediction: Label
    probabilities: tuple[float, ...] | None = None


class Prediction(Struct, frozen=True, gc=False):
    """One row in, one answer out, one id: a row of the table ``predictions``."""

    prediction_id: str
    model_name: str
    model_version: str
    features: Row
    answer: Answer
    predicted_at: Micros
    latency_us: int
    request_id: str
    source: str = "predict"
    role: str = "active"
    context: Mapping[str, Scalar] | None = None


class Outcome(NamedTuple):
    """The truth about one prediction, as a caller reports it."""

    prediction_id: str
    outcome: Label
    observed_at: Micros | None = None
    value: float | None = None
    revise: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """One stored revision of an outcome: a row of the table ``outcomes``."""

    prediction_id: str
    revision: int
    outcome: Label
    value: float | None
    observed_at: Micros | None
    recorded_at: Micros


class OutcomeStatus(StrEnum):
    """Hold what became of one reported outcome."""

    MATCHED = "matched"
    DUPLICATE = "duplicate"
    REVISED = "revised"
    PENDING = "pending"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class OutcomeResult:
    """The answer to one reported outcome.

    ``detail`` says why it was not taken, or that its class is not known.
    """

    prediction_id: str
    status: OutcomeStatus
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The saved result of one check; ``body`` is what ``/drift`` or ``/performance`` answers."""

    report_id: str
    kind: str
    model_name: str
    model_version: str
    checked_at: Micros
    status: str
    body: ReportBody

    @property
    def drift(self) -> DriftReport | None:
        """The body of a drift report; None where the check failed, and of another kind."""
        return cast("DriftReport", self.body) if self.kind == "drift" and self.status != "error" else None

    @property
    def performance(self) -> PerformanceReport | None:
        """The body of a performance report; None where the check failed, and of another kind."""
        return cast("PerformanceReport", self.body) if self.kind == "performance" and self.status != "error" else None

    @property
    def service(self) -> ServiceReport | None:
        """The body of a service report; None of another kind."""
        return cast("ServiceReport", self.body) if self.kind == "service" else None


def from_datetime(moment: datetime) -> Micros:
    """Micros of an aware datetime."""
    return Micros((moment - _EPOCH) // timedelta(microseconds=1))


def label_key(label: Label) -> str:
    """A class label as a key of a JSON object: text as it is, others as JSON writes them.

    >>> label_key(True), label_key(1), label_key("good")
    ('true', '1', 'good')
    """
    return str(label).lower() if isinstance(label, bool) else str(label)


def to_rfc3339(moment: Micros) -> str:
    """``2026-11-20T10:00:00.000000Z`` for a moment in Micros."""
    return (_EPOCH + timedelta(microseconds=moment)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class PredictRequest(Struct, frozen=True, gc=False):
    """Validated rows in schema order.

    Attributes:
        ids: the caller's prediction ids, None where the caller chose none.
        many: whether the caller sent ``instances`` and is answered with a list.
    """

    rows: Sequence[Row]
    ids: Sequence[str | None]
    contexts: Sequence[Mapping[str, Scalar] | None]
    many: bool


def label_keys(classes: Sequence[Label]) -> tuple[str, ...]:
    """The keys of all classes, in their order."""
    return tuple(map(label_key, classes))


def named(classes: Sequence[Label], probabilities: Sequence[float]) -> dict[str, float]:
    """Probabilities by class."""
    return dict(zip(label_keys(classes), probabilities, strict=True))


def normalise_label(schema: dict[str, Any], label: Label) -> Label:
    """Convert a reported truth to the type of the stored schema.

    0, 0.0 and false are one label in a 0/1 task; "0" is not. A class that the model lacks is a truth all the same, as
    it came: the model was wrong. Only text among numbers, or a number among texts, is a mistake of the caller.

    Raises:
        ValueError: the label cannot be the truth of this task; the text says what is expected.
    """
    classes = schema.get("classes") or []
    if not classes:
        if isinstance(label, bool) or not isinstance(label, (int, float)):
            raise ValueError("expected a number")
        if float(label) != label:
            raise ValueError("expected a number that a double holds; this one would be rounded")
        return float(label)
    for known in classes:
        if known == label and isinstance(known, str) == isinstance(label, str):
            return known  # type: ignore[no-any-return]  # classes are labels, read back from JSON
    if any(isinstance(known, str) == isinstance(label, str) for known in classes):
        return label
    raise ValueError(f"expected one of the classes {', '.join(map(label_key, classes))}")


Interval: TypeAlias = tuple[float, float]
"""Begin and end, by ``time.perf_counter``."""


class Stages(Struct):
    """The stages of one request, noted while it is answered; None for one that it did not reach."""

    trace_id: str
    validate: Interval | None = None
    model: Interval | None = None
    commit: Interval | None = None

    def intervals(self) -> Iterator[tuple[str, Interval]]:
        """The stages that there were, by name; a request waits for its batch between two of them."""
        if self.validate:
            yield "validate", self.validate
        if self.validate and self.model:
            yield "batch", (self.validate[1], self.model[0])
        if self.model:
            yield "model", self.model
        if self.commit:
            yield "commit", self.commit


NO_STAGES: Sequence[Stages] = ()


class RequestSpan(NamedTuple):
    """A request that was answered."""

    method: str
    route: str
    status: int
    interval: Interval
    headers: Mapping[bytes, bytes]
    stages: Stages
    request_id: str
    notes: Mapping[str, Any]
