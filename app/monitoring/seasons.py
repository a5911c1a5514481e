"""Seasons: a window of Monday noon is compared with Monday noons, where the reference shows that this matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.monitoring.columns import ReferenceColumn
from app.monitoring.cycles import DAY, FEWEST_PERIODS, Cycle, slots_of
from app.monitoring.statistics import IntArray
from app.types import Json

_FEWEST_ROWS = 50
"""Rows below which no comparison has a verdict."""
_COVERED = 0.95
"""Part of a window whose slots the reference must know."""


class Season(NamedTuple):
    """What a window is compared with.

    Attributes:
        columns: of the reference; those that follow a cycle have the rows of the window's slots alone.
        together: the same rows of every column, for comparing them jointly; empty where the reference has too few.
        about: ``seasonal`` of the drift report.
    """

    columns: list[ReferenceColumn]
    together: list[ReferenceColumn]
    about: Json


def choose(
    columns: Sequence[ReferenceColumn],
    cycles: Sequence[Cycle],
    times: NDArray[np.int64] | None,
    window: NDArray[np.int64],
) -> Season:
    """Compare each column that follows a cycle with the reference's rows of the slots that the window covers.

    The rows are taken in the proportions that the slots have in the window.

    Args:
        times, window: of the reference's and the window's rows, Micros.
    """
    listed = list(columns)
    if times is None:
        return Season(listed, listed, _none("the reference has no times"))
    if not any(map(any, cycles)):
        spans = float(times[-1] - times[0]) / DAY
        short = f"the reference spans {spans:.1f} days, {FEWEST_PERIODS} are needed"
        reason = short if spans < FEWEST_PERIODS else "no feature of the reference follows the weekday or the hour"
        return Season(listed, listed, _none(reason))
    whole = any(weekday for weekday, _ in cycles), any(hour for _, hour in cycles)
    places = {cycle: _known_slots(times, window, cycle) for cycle in {whole, *cycles} if any(cycle)}
    slots = [places.get(cycle) for cycle in cycles]
    chosen = [column if rows is None else _sorted(column, rows) for column, rows in zip(listed, slots, strict=True)]
    used = [
        {"feature": column.subject.name, "weekday": cycle[0], "hour": cycle[1], "rows": len(column.values)}
        for column, cycle in zip(chosen, cycles, strict=True)
        if places.get(cycle) is not None
    ]
    rows = places[whole]
    together = [] if rows is None else [_unsorted(column, rows) for column in listed]
    if not used:
        few = f"the reference has fewer than {_FEWEST_ROWS} rows at the window's weekday and hour"
        return Season(chosen, together, _none(few))
    about = f"{len(used)} columns follow the weekday or the hour and are compared with the same slots (UTC)"
    return Season(chosen, together, {"status": "used", "reason": about, "columns": used})


def _sorted(column: ReferenceColumn, rows: IntArray) -> ReferenceColumn:
    """Take some rows of a column in the known order of the whole: each look takes others, and sorting is slow."""
    part = _unsorted(column, rows)
    if column.subject.categories is None:
        taken = np.zeros(len(column.values), dtype=np.bool_)
        taken[rows] = True
        vars(part)["present"] = column.values[column.order[taken[column.order]]]
    return part


def _unsorted(column: ReferenceColumn, rows: IntArray) -> ReferenceColumn:
    return ReferenceColumn(column.subject, column.values[rows], column.ordered)


def _none(reason: str) -> Json:
    return {"status": "none", "reason": f"no seasonal reference: {reason}"}


def _known_slots(times: NDArray[np.int64], window: NDArray[np.int64], cycle: Cycle) -> IntArray | None:
    """Try weekday and hour together, then the hour alone, then the weekday, whichever the column follows."""
    weekday, hour = cycle
    tries = (
        _same_slots(times, window, each) for each in ((weekday, hour), (False, hour), (weekday, False)) if any(each)
    )
    return next((rows for rows in tries if rows is not None), None)


def _same_slots(times: NDArray[np.int64], window: NDArray[np.int64], cycle: Cycle) -> IntArray | None:
    """Places of the reference's rows in the window's slots and proportions; None where there are too few."""
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
    return rows if len(rows) >= _FEWEST_ROWS else None
