"""Rows and labels as arrays: one array per feature, so that statistics never meet a Python object."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.binning import MISSING, UNSEEN
from app.monitoring.statistics import FloatArray
from app.types import Feature, FeatureType, Label, ModelSchema, Row, Task


def encode(schema: ModelSchema, rows: Sequence[Row]) -> list[NDArray[Any]]:
    """One array of ``len(rows)`` per feature, in schema order.

    Numbers and booleans are float64 (NaN: missing, or not a finite number), categories int32 codes (-1 missing, -2
    unseen). Raises ValueError where a row has another length than the schema.

    >>> from app.types import Feature
    >>> colour = Feature("colour", FeatureType.CATEGORICAL, categories=("red", "blue"))
    >>> schema = ModelSchema("m", "1", Task.BINARY, (Feature("age", FeatureType.NUMERIC), colour), (0, 1), 1)
    >>> [column.tolist() for column in encode(schema, [(41, "blue"), (None, "green"), (7.5, None)])]
    [[41.0, nan, 7.5], [1, -2, -1]]
    """
    if not rows:
        return [_encode_column(feature, ()) for feature in schema.features]
    columns = zip(schema.features, zip(*rows, strict=True), strict=True)
    return [_encode_column(feature, values) for feature, values in columns]


def encode_labels(schema: ModelSchema, labels: Sequence[Label | None] | NDArray[Any]) -> NDArray[Any]:
    """Labels as int32 positions among the classes (-1: unknown or none), in regression as float64 (NaN: none).

    Labels that Python calls equal are one class, as in JSON: 0, 0.0 and false are, "0" is not.

    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=(0, 1), positive=1)
    >>> encode_labels(schema, [False, 1.0, "1", None]).tolist()
    [0, 1, -1, -1]
    """
    if schema.task is Task.REGRESSION:
        return _numbers(tuple(labels))
    return _codes(schema.classes, tuple(labels), unknown=-1)


def encode_probabilities(schema: ModelSchema, rows: Sequence[Sequence[float] | None]) -> FloatArray | None:
    """Probabilities as float64 of shape (n, classes), NaN in rows without any; None where no row has any."""
    none = (math.nan,) * len(schema.classes)
    if not schema.classes or all(row is None for row in rows):
        return None
    return np.array([none if row is None else row for row in rows], dtype=np.float64)


def _encode_column(feature: Feature, values: tuple[Any, ...]) -> NDArray[Any]:
    if feature.type is FeatureType.CATEGORICAL:
        return _codes(feature.categories, values, unknown=UNSEEN)
    return _numbers(values)


def _numbers(values: tuple[Any, ...]) -> FloatArray:
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        column = np.array([_number(value) for value in values])
    column[~np.isfinite(column)] = np.nan
    return column


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) <= sys.float_info.max else math.nan


def _codes(categories: Sequence[Label], values: tuple[Any, ...], *, unknown: int) -> NDArray[np.int32]:
    index: dict[Label | None, int] = {category: code for code, category in enumerate(categories)}
    index[None] = MISSING
    codes = np.array([index.get(value, unknown) for value in values], dtype=np.int32)
    for row in np.flatnonzero(codes == UNSEEN) if unknown == UNSEEN else ():
        if values[row] != values[row]:  # only NaN differs from itself
            codes[row] = MISSING
    return codes
