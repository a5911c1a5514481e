"""Daily and weekly cycles of a column, and the reference rows of the same season."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.monitoring.reference.columns import UNSEEN, ReferenceColumn
from app.reports.drift import Seasonal, SeasonalColumn
from app.statistics import FloatArray, IntArray
from app.types import SECOND


def standard_scores(column: ReferenceColumn, fewest: int) -> list[tuple[str, FloatArray]]:
    """Give scores of mean 0 and variance 1, one value per row, each with its kind.

    Of numbers the ``location`` (centred ranks), the ``spread`` (their squares) and the ``share`` of missing values; of
    categories the ``share`` of each. A score in which fewer than ``fewest`` rows differ from all others is left out.
    """
    values = column.values
    if column.subject.categories is None:
        missing, present = np.isnan(values), column.present
        ranks = (np.searchsorted(present, values, "left") + np.searchsorted(present, values, "right")) / 2
        centred = np.where(missing, 0.0, ranks - len(present) / 2)
        squares = np.where(missing, np.mean(centred[~missing] ** 2) if len(present) else 0.0, centred**2)
        found = [("location", centred), ("spread", squares), ("share", missing.astype(np.float64))]
    else:
        codes = range(UNSEEN, len(column.subject.categories))
        found = [("share", (values == code).astype(np.float64)) for code in codes]
    most = len(values) - fewest
    return [(kind, _standard(score)) for kind, score in found if np.unique(score, return_counts=True)[1].max() <= most]


def _standard(score: FloatArray) -> FloatArray:
    return np.asarray((score - score.mean()) / score.std(), dtype=np.float64)


HOUR, DAY, WEEK = 3600 * SECOND, 86_400 * SECOND, 7 * 86_400 * SECOND
MIN_PERIODS = 4
"""Days or weeks that a cycle must be seen in."""
_MAX_PERIODS = 14
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
    """Find the cycle that each column of a reference follows.

    Its times must span at least four weeks, or four days for hours.

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
    """Give the p-value of "no slot differs from the others".

    It is 1 where too few periods have rows in every slot.
    """
    groups = min(int(periods.max()) + 1, _MAX_PERIODS)
    period = periods * groups // (int(periods.max()) + 1)
    shape = groups, int(slots.max()) + 1
    cell, cells = period * shape[1] + slots, shape[0] * shape[1]
    rows = np.bincount(cell, minlength=cells).reshape(shape)
    busy = rows.sum(axis=0) >= _CELL_ROWS * groups
    whole = (rows[:, busy] > 0).all(axis=1)
    if whole.sum() < MIN_PERIODS or busy.sum() < 2:  # noqa: PLR2004 - one slot is no cycle
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


_MIN_SEASON_ROWS = 50
"""Rows below which no comparison has a verdict."""
_COVERED = 0.95
"""Part of a window whose slots the reference must know."""


class Season(NamedTuple):
    """Hold the reference rows that a window is compared with.

    Attributes:
        columns: of the reference; those that follow a cycle have the rows of the window's slots alone.
        together: the same rows of every column, for comparing them jointly; empty where the reference has too few.
        about: ``seasonal`` of the drift report.
    """

    columns: list[ReferenceColumn]
    together: list[ReferenceColumn]
    about: Seasonal


def choose(
    columns: Sequence[ReferenceColumn],
    cycles: Sequence[Cycle],
    times: NDArray[np.int64] | None,
    window: NDArray[np.int64],
) -> Season:
    """Choose the reference's rows of the window's slots for each column with a cycle.

    The rows are taken in the proportions that the slots have in the window.

    Args:
        times, window: of the reference's and the window's rows, Micros.
    """
    listed = list(columns)
    if times is None:
        return Season(listed, listed, _none("the reference has no times"))
    if not any(map(any, cycles)):
        spans = float(times[-1] - times[0]) / DAY
        short = f"the reference spans {spans:.1f} days, {MIN_PERIODS} are needed"
        reason = short if spans < MIN_PERIODS else "no feature of the reference follows the weekday or the hour"
        return Season(listed, listed, _none(reason))
    whole = any(weekday for weekday, _ in cycles), any(hour for _, hour in cycles)
    places = {cycle: _known_slots(times, window, cycle) for cycle in {whole, *cycles} if any(cycle)}
    slots = [places.get(cycle) for cycle in cycles]
    chosen = [column if rows is None else _sorted(column, rows) for column, rows in zip(listed, slots, strict=True)]
    used: list[SeasonalColumn] = [
        {"feature": column.subject.name, "weekday": cycle[0], "hour": cycle[1], "rows": len(column.values)}
        for column, cycle in zip(chosen, cycles, strict=True)
        if places.get(cycle) is not None
    ]
    rows = places[whole]
    together = [] if rows is None else [_unsorted(column, rows) for column in listed]
    if not used:
        few = f"the reference has fewer than {_MIN_SEASON_ROWS} rows at the window's weekday and hour"
        return Season(chosen, together, _none(few))
    about = f"{len(used)} columns follow the weekday or the hour and are compared with the same slots (UTC)"
    return Season(chosen, together, {"status": "used", "reason": about, "columns": used})


def _sorted(column: ReferenceColumn, rows: IntArray) -> ReferenceColumn:
    """Take some rows of a column in the known order of the whole.

    Each look takes other rows, and sorting is slow.
    """
    part = _unsorted(column, rows)
    if column.subject.categories is None:
        taken = np.zeros(len(column.values), dtype=np.bool_)
        taken[rows] = True
        vars(part)["present"] = column.values[column.order[taken[column.order]]]
    return part


def _unsorted(column: ReferenceColumn, rows: IntArray) -> ReferenceColumn:
    return ReferenceColumn(column.subject, column.values[rows], column.ordered)


def _none(reason: str) -> Seasonal:
    return {"status": "none", "reason": f"no seasonal reference: {reason}"}


def _known_slots(times: NDArray[np.int64], window: NDArray[np.int64], cycle: Cycle) -> IntArray | None:
    """Try weekday and hour together, then the hour, then the weekday."""
    weekday, hour = cycle
    tries = (
        _same_slots(times, window, each) for each in ((weekday, hour), (False, hour), (weekday, False)) if any(each)
    )
    return next((rows for rows in tries if rows is not None), None)


def _same_slots(times: NDArray[np.int64], window: NDArray[np.int64], cycle: Cycle) -> IntArray | None:
    """Give the reference's rows in the window's slots and proportions, or None if too few."""
    ours, theirs = slots_of(times, cycle), slots_of(window, cycle)
    known, wanted = np.bincount(ours, minlength=7 * 24), np.bincount(theirs, minlength=7 * 24)
    shares = np.where(known > 0, wanted, 0) / len(window)
    if shares.sum() < _COVERED:
        return None
    scale = np.min(known[shares > 0] / shares[shares > 0])
    taken = np.floor(scale * shares).astype(np.int64)
    picked = [
        np.flatnonzero(ours == slot)[np.linspace(0, known[slot] - 1, taken[slot]).round().astype(np.int64)]
        for slot in np.flatnonzero(taken)
    ]
    rows = np.sort(np.concatenate(picked))
    return rows if len(rows) >= _MIN_SEASON_ROWS else None
