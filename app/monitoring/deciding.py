"""The tests that decide about one column: of its whole distribution, and of single shares of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from app.monitoring import statistics
from app.monitoring.independence import Inflation
from app.monitoring.limits import SHAPE_SHARE
from app.monitoring.statistics import FloatArray, IntArray, Pair

NUMERIC, CATEGORICAL = "anderson-darling+mood", "chi-square+largest-share"
"""What a report calls the tests that decide about a number, and about categories or a number of few values."""
ORDER_SHARE = 0.8
"""Part of a number's alpha for Anderson-Darling; the rest is for Mood's test of scale, which it is weak at."""
_RISE_SHARE = 0.8
"""Part of a gap's alpha for its rise: what goes missing is more often news than what comes back."""
_FEWEST = 10
"""Values that both sides must have before their order is tested."""


class Shares(NamedTuple):
    """Rows of each side in some cells, out of all its rows; ``gaps`` of the first are missing or unseen values."""

    reference: IntArray
    n: int
    window: IntArray
    m: int
    gaps: int


class Evidence(NamedTuple):
    """P-values of "nothing has changed".

    Attributes:
        shape: of the whole distribution, None where there is too little to test.
        share: of the share that changed most, corrected over the shares; None where there is none.
        each: by the name of the test, before any correction.
    """

    shape: float | None
    share: float | None
    each: Mapping[str, float]

    @property
    def p_value(self) -> float:
        """Corrected over the tests within the column, by the parts of alpha that the kinds of tests have."""
        if self.shape is None or self.share is None:
            return next((p for p in (self.shape, self.share) if p is not None), 1.0)
        return min(self.shape / SHAPE_SHARE, self.share / (1 - SHAPE_SHARE), 1.0)


def numbers(pair: Pair | None, shares: Shares, null: Inflation) -> Evidence:
    """Test the order of the values, and the shares of missing ones and of values that a large part of all rows has."""
    each, shape = {}, None
    if pair is not None and min(pair.n, pair.m) >= _FEWEST:
        distance, z = statistics.anderson_darling(pair.ranks, pair.n), statistics.mood_z(pair.ranks, pair.n)
        order = float(statistics.anderson_darling_p_value(distance, null.values))
        scale = float(statistics.mood_p_value(z, pair.n, pair.m, null.values))
        each = {"anderson-darling": order, "mood": scale}
        shape = min(order / ORDER_SHARE, scale / (1 - ORDER_SHARE), 1.0)
    share = _largest_change(shares, null)
    return Evidence(shape, share, each if share is None else {**each, "largest-share": share})


def categories(cells: Shares, null: Inflation) -> Evidence:
    """Chi-square sees a change spread over many cells; the largest change of one share sees a single cell.

    Two cells are one share, and its test is exact at any count.
    """
    share = _largest_change(cells, null)
    used = (cells.reference + cells.window) > 0
    if share is None or np.count_nonzero(used) == 2:  # noqa: PLR2004
        return Evidence(share, None, {} if share is None else {"share": share})
    chi_square = statistics.homogeneity_p_value(cells.reference[used], cells.window[used], null.values)
    return Evidence(chi_square, share, {"chi-square": chi_square, "largest-share": share})


def _largest_change(shares: Shares, null: Inflation) -> float | None:
    totals = shares.reference + shares.window
    used = np.flatnonzero((totals > 0) & (totals < shares.n + shares.m))
    if len(used) == 2 and totals[used].sum() == shares.n + shares.m:  # noqa: PLR2004
        used = used[:1]  # the other cell holds the rest
    if not len(used):
        return None
    tails = statistics.share_tails(shares.reference[used], shares.n, shares.window[used], shares.m)
    gap = used < shares.gaps
    rise, fall = (np.where(gap, statistics.widen(p, null.gaps), statistics.widen(p, null.values)) for p in tails)
    weight: FloatArray = np.where(gap, _RISE_SHARE, 0.5)
    return statistics.smallest_p_value(np.minimum(rise / weight, fall / (1 - weight)))
