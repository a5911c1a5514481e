"""Drifts to inject into a column, in order to see whether they are found; pure functions of a Generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.binning import MISSING
from app.monitoring.columns import ReferenceColumn
from app.monitoring.statistics import FloatArray
from app.types import FeatureType

Column = NDArray[Any]
Change = Callable[[ReferenceColumn, Column, np.random.Generator], Column]


@dataclass(frozen=True, slots=True)
class Injection:
    """A drift by name.

    Attributes:
        suits: whether a reference column can drift so.
        change: the values of rows after it, out of those before.
    """

    name: str
    suits: Callable[[ReferenceColumn], bool]
    change: Change


def injections() -> tuple[Injection, ...]:
    """Every drift of the self-test."""
    return (
        *(Injection(f"mean + {amount:g} sd", _spreads, _shift(amount)) for amount in (0.1, 0.2, 0.5)),
        Injection("spread x 1.2", _spreads, _scale(1.2)),
        Injection("5 % go missing", _is_known, _lose(0.05)),
        Injection("largest category - 30 %", _has_rivals, _thin_out(0.3)),
    )


def _spreads(column: ReferenceColumn) -> bool:
    return column.subject.type in (FeatureType.NUMERIC, FeatureType.INTEGER) and bool(
        len(column.present) and column.present[0] < column.present[-1]
    )


def _is_known(column: ReferenceColumn) -> bool:
    return bool((~_missing(column.values)).any())


def _has_rivals(column: ReferenceColumn) -> bool:
    return column.subject.categories is not None and len(np.unique(column.values[column.values >= 0])) > 1


def _missing(values: Column) -> NDArray[np.bool_]:
    return np.asarray(np.isnan(values) if values.dtype.kind == "f" else values == MISSING, dtype=np.bool_)


def _shift(amount: float) -> Change:
    def change(column: ReferenceColumn, values: Column, rng: np.random.Generator) -> Column:
        return _as_whole_as(column, values + amount * column.present.std(), rng)

    return change


def _scale(factor: float) -> Change:
    def change(column: ReferenceColumn, values: Column, rng: np.random.Generator) -> Column:
        centre = column.present.mean()
        return _as_whole_as(column, centre + factor * (values - centre), rng)

    return change


def _as_whole_as(column: ReferenceColumn, values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Keep whole numbers whole: rounded up as often as their fraction says, so that the mean is right."""
    if column.subject.type != FeatureType.INTEGER:
        return values
    return np.floor(values + rng.random(len(values)))


def _lose(share: float) -> Change:
    def change(_column: ReferenceColumn, values: Column, rng: np.random.Generator) -> Column:
        gone = np.nan if values.dtype.kind == "f" else MISSING
        return np.where(rng.random(len(values)) < share, gone, values).astype(values.dtype)

    return change


def _thin_out(share: float) -> Change:
    """Rows of the most frequent category take the value of a row with another one."""

    def change(column: ReferenceColumn, values: Column, rng: np.random.Generator) -> Column:
        known = column.values[column.values >= 0]
        largest = int(np.bincount(known).argmax())
        others = known[known != largest]
        leaves = (values == largest) & (rng.random(len(values)) < share)
        return np.where(leaves, rng.choice(others, len(values)), values)

    return change
