"""Sample rows, and a chosen drift in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from app.commands.tables.columns import Columns, read_columns
from app.commands.tables.dialect import Dialect
from app.errors import PlumblineError
from app.serving.bundle.schema_inference import rows_of
from app.statistics import FloatArray
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
    """One row of the data: its features by name, its truth, context and business value."""

    features: Mapping[str, Scalar]
    outcome: Label | None
    context: Mapping[str, Scalar] = field(default_factory=dict)
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Extra:
    """Name more columns of the data: those of the context, and the outcome's value."""

    context: tuple[str, ...] = ()
    value: str | None = None


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


def drifting(
    samples: Iterable[Sample], drifts: Sequence[Drift], rows: int, rng: np.random.Generator
) -> Iterator[Sample]:
    """Yield ``rows`` samples, changed by each drift from its row ``from_row`` on.

    >>> data = [Sample({"a": 1.0}, 0), Sample({"a": 3.0}, 1)]
    >>> shift = plan_drift(DriftKind.SHIFT, data, [Feature("a", FeatureType.NUMERIC)], [0, 1], from_row=1)
    >>> [sample.features["a"] for sample in drifting(data, [shift], 2, np.random.default_rng(0))]
    [1.0, 4.0]
    """
    for row, each in enumerate(islice(samples, rows)):
        sample = each
        for drift in drifts:
            sample = changed(sample, drift, rng) if row >= drift.from_row else sample
        yield sample


NOISE = 0.3
"""Part of the spread within a class that a fresh row adds to the row that it is made of."""
MAX_FEW_VALUES = 20
"""A number of at most so many values keeps them."""


class FreshRows:
    """Makes rows of the same law as given ones, which no service has seen yet.

    Sending rows twice would be broken input, and a monitor says so. A smoothed bootstrap with the variance corrected
    (Silverman and Young 1987, doi:10.1093/biomet/74.3.469), on normal scores, so that each number keeps its own
    distribution, bounds and decimals: a row, moved by a part of the difference of two others of its class. Categories,
    gaps and numbers of few values are those of the row.

    Args:
        data: the rows, all of one task.
        features: the features that they have; a numeric outcome moves with them.
    """

    def __init__(self, data: Sequence[Sample], features: Sequence[Feature], classes: Sequence[Label]) -> None:
        self._data = data
        columns = {each.name: [sample.features[each.name] for sample in data] for each in features}
        numbers = {each.name: _numbers(columns[each.name]) for each in features if each.type.is_number}
        if not classes:
            numbers[_OUTCOME] = _numbers([sample.outcome for sample in data])
        self._scales = {name: _Scale(values) for name, values in numbers.items() if _is_continuous(values)}
        self._whole = {each.name for each in features if each.type is FeatureType.INTEGER}
        self._scores = {name: scale.scores(numbers[name]) for name, scale in self._scales.items()}
        groups = [[place for place, sample in enumerate(data) if sample.outcome == label] for label in classes]
        large = [np.array(group) for group in groups if len(group) >= _MIN_GROUP]
        everybody = np.arange(len(data))
        self._group = [everybody] * len(data)
        for group in large:
            for place in group.tolist():
                self._group[place] = group

    def draw(self, place: int, rng: np.random.Generator) -> Sample:
        """Make a row of the one at a place."""
        sample, group = self._data[place], self._group[place]
        one, other = rng.choice(group, 2, replace=False) if len(group) > 1 else (place, place)
        moved, weight = dict[str, float](), NOISE * float(rng.normal()) / math.sqrt(2)
        for name, scores in self._scores.items():
            center = float(np.nanmean(scores[group]))
            step = weight * float(scores[one] - scores[other])
            if np.isnan(step):
                step = rng.normal(0.0, NOISE * float(np.nanstd(scores[group])))
            moved[name] = center + (scores[place] - center + step) / np.sqrt(1 + NOISE**2)
        values = {name: self._scales[name].value(score) for name, score in moved.items() if np.isfinite(score)}
        outcome = values.pop(_OUTCOME, sample.outcome)
        whole = {name: round(value) if name in self._whole else value for name, value in values.items()}
        return replace(sample, features={**sample.features, **whole}, outcome=outcome)


_OUTCOME = "\0outcome"
_MIN_GROUP = 10
"""Rows of a class from which on its spread is known."""


class _Scale:
    """The normal scores of a column's values, and the way back."""

    def __init__(self, values: FloatArray) -> None:
        self._sorted = np.sort(values[~np.isnan(values)])
        self._shares = np.linspace(0.0, 1.0, len(self._sorted))
        self._decimals = max(
            -int(Decimal(repr(value)).normalize().as_tuple().exponent) for value in self._sorted.tolist()
        )

    def scores(self, values: FloatArray) -> FloatArray:
        """Equal values share the score of their middle rank."""
        first, last = (np.searchsorted(self._sorted, values, side) for side in ("left", "right"))
        scores = special.ndtri((first + last) / 2 / len(self._sorted))
        return np.asarray(np.where(np.isnan(values), np.nan, scores), dtype=np.float64)

    def value(self, score: float) -> float:
        """The value of a score, with as many decimals as the column has."""
        found = float(np.interp(special.ndtr(score), self._shares, self._sorted))
        return round(found, self._decimals)


def _numbers(values: Sequence[Scalar]) -> FloatArray:
    return np.array([np.nan if value is None else float(value) for value in values])


def _is_continuous(values: FloatArray) -> bool:
    known = values[np.isfinite(values)]
    return len(known) == np.count_nonzero(~np.isnan(values)) and len(np.unique(known)) > MAX_FEW_VALUES


def endless(
    data: Sequence[Sample], features: Sequence[Feature], classes: Sequence[Label], rng: np.random.Generator
) -> Iterator[Sample]:
    """Yield the data as they are, and then fresh rows of the same law without end."""
    yield from data
    fresh = FreshRows(data, features, classes)
    while True:
        for place in rng.permutation(len(data)).tolist():
            yield fresh.draw(place, rng)


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
    file: Path,
    features: Sequence[Feature],
    classes: Sequence[Label],
    target: str,
    dialect: Dialect,
    extra: Extra = Extra(),
) -> tuple[list[Sample], str]:
    """Read every row of a table, and one line on what was assumed.

    Columns that are neither a feature nor the target are left out.

    Raises:
        PlumblineError: the file cannot be read, lacks a column, has no rows, or holds a value of another type.
    """
    known = {feature.name: feature for feature in features}
    numbers = {name: Feature(name, FeatureType.NUMERIC, nullable=True) for name in (extra.value,) if name}
    numbers |= {} if classes else {target: Feature(target, FeatureType.NUMERIC, nullable=True)}
    columns = read_columns(
        file,
        dialect,
        names=list(dict.fromkeys([*known, target, *extra.context, *numbers])),
        known=known | numbers,
        classes={target: classes} if classes else None,
    )
    columns.refuse_misfits()
    if not len(columns.frame):
        raise PlumblineError(f"{file}: has no rows")
    labels = _labels(columns, classes, target)
    rows = rows_of(features, columns.frame)
    contexts = [_plain(columns, name) for name in extra.context]
    values = [None if value is None else float(value) for value in _plain(columns, extra.value)]
    samples = [
        Sample(
            dict(zip(known, row, strict=True)),
            label,
            {name: column[place] for name, column in zip(extra.context, contexts, strict=True)},
            values[place] if extra.value else None,
        )
        for place, (row, label) in enumerate(zip(rows, labels, strict=True))
    ]
    return samples, columns.assumptions()


def _plain(columns: Columns, name: str | None) -> list[Any]:
    """The values of a column as JSON has them; none where no column is named."""
    if name is None:
        return []
    column = columns.frame[name]
    pairs = zip(column.astype(object).tolist(), column.isna().tolist(), strict=True)
    return [None if missing else value for value, missing in pairs]


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
