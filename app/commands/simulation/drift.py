"""Sample rows, and a chosen drift in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import numpy as np

from app.commands.tables.columns import Columns, read_columns
from app.commands.tables.dialect import Dialect
from app.errors import PlumblineError
from app.serving.bundle.schema_inference import rows_of
from app.types import Feature, FeatureType, Json, Label, Scalar

NEW_CATEGORY = "never-seen-before"
"""The value that ``new-category`` brings in; for a feature with integer categories it is one above the highest."""


class DriftKind(StrEnum):
    """Say what changes."""

    NONE = "none"
    SHIFT = "shift"
    SCALE = "scale"
    MISSING = "missing"
    NEW_CATEGORY = "new-category"
    LABEL_FLIP = "label-flip"


DEFAULT_AMOUNTS = {
    DriftKind.NONE: 0.0,
    DriftKind.SHIFT: 1.0,
    DriftKind.SCALE: 2.0,
    DriftKind.MISSING: 0.3,
    DriftKind.NEW_CATEGORY: 0.3,
    DriftKind.LABEL_FLIP: 0.3,
}
"""Standard deviations for a shift, a factor for a scale, a share of the rows for the others."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of the data: its features by name, and the truth about it."""

    features: Mapping[str, Scalar]
    outcome: Label | None


@dataclass(frozen=True, slots=True)
class Drift:
    """A change of one feature, or of the labels, from row ``from_row`` on (counted from 0).

    Attributes:
        feature: the feature that changes; None for ``none`` and ``label-flip``.
        center, spread: mean and standard deviation of that feature in the data, where it is a number.
        labels: the classes between which ``label-flip`` moves.
    """

    kind: DriftKind
    amount: float
    from_row: int
    feature: Feature | None = None
    center: float = 0.0
    spread: float = 0.0
    labels: tuple[Label, ...] = ()


def plan_drift(
    kind: DriftKind,
    data: Sequence[Sample],
    features: Sequence[Feature],
    classes: Sequence[Label],
    *,
    from_row: int,
    amount: float | None = None,
    name: str | None = None,
) -> Drift:
    """Work out a drift, on the feature ``name`` or on the first that can drift so.

    Raises:
        PlumblineError: no feature, or not this one, can drift in that way; the text names those that can.
    """
    chosen = DEFAULT_AMOUNTS[kind] if amount is None else amount
    if kind in (DriftKind.MISSING, DriftKind.NEW_CATEGORY, DriftKind.LABEL_FLIP) and not 0 <= chosen <= 1:
        raise PlumblineError(f"--amount: for {kind} it is the share of rows to change, from 0 to 1")
    drift = Drift(kind, chosen, from_row)
    if kind is DriftKind.NONE:
        return drift
    if kind is DriftKind.LABEL_FLIP:
        if not classes:
            raise PlumblineError("--drift label-flip: needs a model with classes")
        return replace(drift, labels=tuple(classes))
    feature = _choose(kind, features, name)
    known = [value for sample in data if isinstance(value := sample.features[feature.name], int | float)]
    if kind in (DriftKind.SHIFT, DriftKind.SCALE):
        if not known:
            raise PlumblineError(f"--feature {feature.name}: the data hold no value of it")
        drift = replace(drift, center=float(np.mean(known)), spread=float(np.std(known)))
        ends = [_changed_value(value, drift, feature, np.random.default_rng()) for value in (min(known), max(known))]
        if not np.isfinite(np.asarray(ends, dtype=float)).all():
            raise PlumblineError(f"--amount {chosen}: moves {feature.name} beyond what a number can be")
    return replace(drift, feature=feature)


def _choose(kind: DriftKind, features: Sequence[Feature], name: str | None) -> Feature:
    able = [feature for feature in features if _can(kind, feature)]
    names = ", ".join(feature.name for feature in able) or "none"
    if name is None and able:
        return able[0]
    for feature in able:
        if feature.name == name:
            return feature
    wanted = {DriftKind.MISSING: "nullable", DriftKind.NEW_CATEGORY: "categorical"}.get(kind, "numeric")
    raise PlumblineError(f"--drift {kind}: needs a {wanted} feature; {wanted} here: {names}")


def _can(kind: DriftKind, feature: Feature) -> bool:
    match kind:
        case DriftKind.MISSING:
            return feature.nullable
        case DriftKind.NEW_CATEGORY:
            return feature.type is FeatureType.CATEGORICAL
    return feature.type.is_number


def drifting(data: Sequence[Sample], drift: Drift, rows: int, rng: np.random.Generator) -> Iterator[Sample]:
    """Yield ``rows`` samples that drift from row ``drift.from_row`` on.

    The data are shuffled again each time they are used up.

    >>> data = [Sample({"a": 1.0}, 0), Sample({"a": 3.0}, 1)]
    >>> shift = plan_drift(DriftKind.SHIFT, data, [Feature("a", FeatureType.NUMERIC)], [0, 1], from_row=1)
    >>> [sample.features["a"] for sample in drifting(data, shift, 2, np.random.default_rng(0))]
    [1.0, 4.0]
    """
    order = np.arange(len(data))
    for row in range(rows):
        position = row % len(data)
        if row and position == 0:
            order = rng.permutation(len(data))
        sample = data[order[position]]
        yield changed(sample, drift, rng) if row >= drift.from_row else sample


def changed(sample: Sample, drift: Drift, rng: np.random.Generator) -> Sample:
    """One sample after the drift; a missing value stays missing."""
    if drift.kind is DriftKind.LABEL_FLIP:
        others = [label for label in drift.labels if label != sample.outcome]
        flips = sample.outcome is not None and rng.random() < drift.amount
        return replace(sample, outcome=others[rng.integers(len(others))]) if flips else sample
    if drift.feature is None:
        return sample
    value = _changed_value(sample.features[drift.feature.name], drift, drift.feature, rng)
    return replace(sample, features={**sample.features, drift.feature.name: value})


def _changed_value(value: Scalar, drift: Drift, feature: Feature, rng: np.random.Generator) -> Scalar:
    match drift.kind:
        case DriftKind.MISSING:
            return None if rng.random() < drift.amount else value
        case DriftKind.NEW_CATEGORY:
            return _unseen(feature) if rng.random() < drift.amount else value
    if not isinstance(value, int | float):
        return value
    moved = value + drift.amount * drift.spread
    if drift.kind is DriftKind.SCALE:
        moved = drift.center + (value - drift.center) * drift.amount
    return round(moved) if feature.type is FeatureType.INTEGER and np.isfinite(moved) else moved


def _unseen(feature: Feature) -> str | int:
    numbers = [category for category in feature.categories if isinstance(category, int)]
    return max(numbers) + 1 if numbers else NEW_CATEGORY


def read_feature(entry: Json) -> Feature:
    """One feature as `GET /models/{name}` describes it."""
    return Feature(
        name=entry["name"],
        type=FeatureType(entry["type"]),
        nullable=bool(entry.get("nullable")),
        categories=tuple(entry.get("categories") or ()),
    )


def read_samples(
    file: Path, features: Sequence[Feature], classes: Sequence[Label], target: str, dialect: Dialect
) -> tuple[list[Sample], str]:
    """Read every row of a table, and one line on what was assumed.

    Columns that are neither a feature nor the target are left out.

    Raises:
        PlumblineError: the file cannot be read, lacks a column, has no rows, or holds a value of another type.
    """
    known = {feature.name: feature for feature in features}
    columns = read_columns(
        file,
        dialect,
        names=[*known, target],
        known=known if classes else known | {target: Feature(target, FeatureType.NUMERIC, nullable=True)},
        classes={target: classes} if classes else None,
    )
    columns.refuse_misfits()
    if not len(columns.frame):
        raise PlumblineError(f"{file}: has no rows")
    labels = _labels(columns, classes, target)
    rows = rows_of(features, columns.frame)
    samples = [Sample(dict(zip(known, row, strict=True)), label) for row, label in zip(rows, labels, strict=True)]
    return samples, columns.assumptions()


def _labels(columns: Columns, classes: Sequence[Label], target: str) -> list[Label | None]:
    """The truth of each row; None where it is not known.

    It is a class of the model, or a number in regression.
    """
    column = columns.frame[target]
    pairs = zip(column.astype(object).tolist(), column.isna().tolist(), strict=True)
    labels = [None if missing else label if classes else float(label) for label, missing in pairs]
    for row, label in enumerate(labels, start=1):
        if classes and label is not None and label not in classes:
            known = ", ".join(map(str, classes))
            raise PlumblineError(f"{columns.file}: row {row}: {target} is {str(label)[:40]!r}, and not one of {known}")
    return labels
