"""Cycles: which columns of a reference follow the hour of the day or the day of the week."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.monitoring.columns import ReferenceColumn
from app.monitoring.scores import standard_scores
from app.monitoring.statistics import FloatArray, IntArray
from app.types import SECOND

HOUR, DAY, WEEK = 3600 * SECOND, 86_400 * SECOND, 7 * 86_400 * SECOND
FEWEST_PERIODS = 4
"""Days or weeks that a cycle must be seen in."""
_MOST_PERIODS = 14
"""Of more periods, neighbours are taken together."""
_MONDAY = 4 * DAY
"""1970 began on a Thursday; the first Monday came four days later."""
_SCORE_ROWS = 200
_CELL_ROWS = 3
"""Rows that a slot must have in every period, on average, to be compared with the others."""
_ALPHA = 0.01

Cycle: TypeAlias = tuple[bool, bool]
"""Whether a column follows the weekday, and whether it follows the hour of the day (UTC)."""


def find_cycles(columns: Sequence[ReferenceColumn], times: NDArray[np.int64] | None) -> list[Cycle]:
    """Find what each column of a reference follows, where its times span at least four weeks, or four days for hours.

    Analysis of variance of the means of each slot in each period, slots against what is left when slot and period are
    taken out: Fisher (1925), "Statistical methods for research workers". A day that differs from others is no cycle.
    Over all columns, cycles and scores, one in a hundred references without any cycle is thought to have one.
    """
    if times is None or not len(times):
        return [(False, False)] * len(columns)
    scores = [[score for _, score in standard_scores(column, _SCORE_ROWS)] for column in columns]
    alpha = _ALPHA / max(2 * sum(map(len, scores)), 1)
    slots = (times - _MONDAY) // DAY % 7, times // HOUR % 24
    periods = (times - times[0]) // WEEK, (times - times[0]) // DAY
    follows = [
        [min((_cycle_p_value(score, *cells) for score in own), default=1.0) <= alpha for own in scores]
        for cells in zip(slots, periods, strict=True)
    ]
    return list(zip(*follows, strict=True))


def without_cycle(score: FloatArray, times: NDArray[np.int64], cycle: Cycle) -> FloatArray:
    """Take the mean of each slot out of a score."""
    slots = slots_of(times, cycle)
    means = np.bincount(slots, weights=score) / np.maximum(np.bincount(slots), 1)
    return np.asarray(score - means[slots], dtype=np.float64)


def slots_of(times: NDArray[np.int64], cycle: Cycle) -> IntArray:
    """Number the slot of each moment, from 0 to 167; a cycle without weekday or hour has fewer."""
    by_weekday, by_hour = cycle
    return (times - _MONDAY) // DAY % 7 * 24 * by_weekday + times // HOUR % 24 * by_hour


def _cycle_p_value(score: FloatArray, slots: IntArray, periods: IntArray) -> float:
    """Give the p-value of "no slot differs from the others", 1 where too few periods have rows in every slot."""
    groups = min(int(periods.max()) + 1, _MOST_PERIODS)
    period = periods * groups // (int(periods.max()) + 1)
    shape = groups, int(slots.max()) + 1
    cell, cells = period * shape[1] + slots, shape[0] * shape[1]
    rows = np.bincount(cell, minlength=cells).reshape(shape)
    busy = rows.sum(axis=0) >= _CELL_ROWS * groups
    whole = (rows[:, busy] > 0).all(axis=1)
    if whole.sum() < FEWEST_PERIODS or busy.sum() < 2:  # noqa: PLR2004 - one slot is no cycle
        return 1.0
    sums = np.bincount(cell, weights=score, minlength=cells).reshape(shape)
    means = (sums[:, busy] / np.maximum(rows[:, busy], 1))[whole]
    return _slots_p_value(means)


def _slots_p_value(means: FloatArray) -> float:
    """Give the p-value of the columns of a table of periods and slots, by Fisher's F."""
    periods, slots = means.shape
    effect = means.mean(axis=0) - means.mean()
    rest = means - means.mean(axis=1, keepdims=True) - effect
    freedom = slots - 1, (slots - 1) * (periods - 1)
    noise = float((rest**2).sum()) / freedom[1]
    between = float((effect**2).sum()) * periods / freedom[0]
    return float(special.fdtrc(*freedom, between / noise)) if noise > 0 else 1.0
