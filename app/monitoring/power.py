"""Inject changes into the reference and measure how soon a configuration finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.check_request import Limits
from app.monitoring.drift.column_tests import Comparison, compare
from app.monitoring.drift.verdict import Look, judge
from app.monitoring.reference.columns import MISSING, ReferenceColumn
from app.monitoring.reference.reference import Reference
from app.reports.drift import Verdict
from app.statistics import FloatArray
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
    """Round whole-number features at random so that the mean stays right."""
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


_NULL_LOOKS = 4
"""Quiet looks beside every injected drift."""
_EXAM_ALPHA = 0.01
"""A budget large enough to be measured in a minute; the user's own may be one alarm in ten thousand looks."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Hold what is tested: limits, rows of a window, and new rows in each look."""

    limits: Limits
    window: int
    new: int


@dataclass
class Record:
    """Delays in rows of one drift's streams; None where a window full of it was not enough."""

    features: int = 0
    delays: list[int | None] = field(default_factory=list)

    @property
    def power(self) -> float:
        """Share of the streams in which the drift was found."""
        return sum(delay is not None for delay in self.delays) / len(self.delays)

    @property
    def delay(self) -> float | None:
        """Median delay of those that were found, in rows."""
        found = [delay for delay in self.delays if delay is not None]
        return median(found) if found else None


@dataclass
class Findings:
    """Hold what was found so far.

    Attributes:
        drifts: by the injection's name.
        looks: quiet looks.
        alarms: those that alarmed at the user's own limits.
        exam_alarms: those that would have alarmed at a budget of 1 % a look.
    """

    drifts: dict[str, Record] = field(default_factory=dict)
    looks: int = 0
    alarms: int = 0
    exam_alarms: int = 0


def rounds(reference: Reference, setting: Setting, rng: np.random.Generator) -> Iterator[Findings]:
    """Yield the findings after each round, for as many rounds as are asked for.

    In a round every kind of drift befalls the next feature that it can befall, and :data:`_NULL_LOOKS` windows befall
    nothing. References and windows are drawn from the user's reference with replacement, so that a quiet window differs
    from its reference by chance alone; rows are independent. Features alone are looked at: joint drift, and drift of
    the answers, may find more.
    """
    findings, turn = Findings(), 0
    inflations = reference.inflations(setting.window)
    while True:
        columns = _redraw(reference, inflations, rng)
        quiet = [_look(columns, setting.window, rng) for _ in range(_NULL_LOOKS)]
        for found in quiet:
            findings.looks += 1
            findings.alarms += _alarms(found, setting.limits)
            findings.exam_alarms += _alarms(found, replace(setting.limits, alpha=_EXAM_ALPHA, material_psi=0.0))
        for injection in injections():
            able = [place for place, (column, _) in enumerate(columns) if injection.suits(column)]
            record = findings.drifts.setdefault(injection.name, Record(len(able)))
            if able:
                place = able[turn % len(able)]
                record.delays.append(_delay(columns, place, injection, setting, quiet[0], rng))
        turn += 1
        yield findings


def _redraw(
    reference: Reference, inflations: Sequence[float], rng: np.random.Generator
) -> list[tuple[ReferenceColumn, float]]:
    """Draw a reference, each feature with how much the real one widens its null."""
    rows = rng.integers(0, reference.rows, reference.rows)
    drawn = [ReferenceColumn(column.subject, column.values[rows]) for column in reference.features]
    return list(zip(drawn, inflations, strict=False))


def _look(
    columns: Sequence[tuple[ReferenceColumn, float]], window: int, rng: np.random.Generator
) -> list[Comparison | None]:
    rows = rng.integers(0, len(columns[0][0].values), window)
    return [compare(column, column.values[rows], inflation) for column, inflation in columns]


def _alarms(found: Sequence[Comparison | None], limits: Limits) -> bool:
    return any(entry["status"] == "drift" for entry in _judged(found, limits))


def _judged(found: Sequence[Comparison | None], limits: Limits) -> list[Verdict]:
    return judge(Look(limits, "", ""), found, [None] * len(found))


def _delay(
    columns: Sequence[tuple[ReferenceColumn, float]],
    place: int,
    injection: Injection,
    setting: Setting,
    quiet: Sequence[Comparison | None],
    rng: np.random.Generator,
) -> int | None:
    """Count the drifted rows that came before the look that found them.

    The other features stay as they were.
    """
    column, inflation = columns[place]
    before, after = (column.values[rng.integers(0, len(column.values), setting.window)] for _ in range(2))
    after = injection.change(column, after, rng)
    found = list(quiet)
    for rows in range(setting.new, setting.window + setting.new, setting.new):
        drifted = min(rows, setting.window)
        found[place] = compare(column, np.concatenate([before[drifted:], after[:drifted]]), inflation)
        if _judged(found, setting.limits)[place]["status"] == "drift":
            return drifted
    return None
