"""Compare one column with its reference: every statistic, and the evidence for a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from app import statistics
from app.errors import describe_error
from app.figures.drift import DRIFT_STATISTICS, Distances
from app.monitoring.check_request import SHAPE_SHARE
from app.monitoring.reference.columns import (
    UNSEEN,
    GapsBefore,
    ReferenceColumn,
    ValueBins,
    code_counts,
    count_equal,
    describe,
    merge_novel,
    merge_rare,
    score_of,
    snap,
    sorted_present,
    without,
)
from app.monitoring.reference.encoding import Worth, encode_labels, encode_probabilities
from app.reports.drift import CheckError, ColumnSummary
from app.statistics import FloatArray, IntArray, Pair, distances
from app.statistics.autocorrelation import Independence, Inflation
from app.statistics.distances import Samples
from app.store.database import Pause, no_pause
from app.store.queries.windows import Window
from app.types import ModelSchema

NUMERIC, CATEGORICAL = "anderson-darling+mood", "chi-square+largest-share"
"""What a report calls the tests that decide about a number, and about categories or a number of few values."""
ORDER_SHARE = 0.8
"""Part of a number's alpha for Anderson-Darling; the rest is for Mood's test of scale, which it is weak at."""
_RISE_SHARE = 0.8
"""Part of a gap's alpha for its rise: what goes missing is more often news than what comes back."""
_MAX_VALUES_OF_BOTH = 40
"""Different values of both samples up to which a number of few values is compared value by value."""
_MIN_ROWS_FOR_ORDER_TESTS = 10
"""Values that both sides must have before their order is tested."""


class Shares(NamedTuple):
    """Hold the rows of each side in some cells, out of all its rows.

    ``gaps`` of the first cells are missing or unseen values.
    """

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
        """Correct over the tests within the column.

        Each kind of test has its part of alpha.
        """
        if self.shape is None or self.share is None:
            return next((p for p in (self.shape, self.share) if p is not None), 1.0)
        return min(self.shape / SHAPE_SHARE, self.share / (1 - SHAPE_SHARE), 1.0)


def numbers(pair: Pair | None, shares: Shares, null: Inflation) -> Evidence:
    """Test a numeric column: the order of its values, and some shares.

    The shares are those of missing values and of values that a large part of all rows has.
    """
    each, shape = {}, None
    if pair is not None and min(pair.n, pair.m) >= _MIN_ROWS_FOR_ORDER_TESTS:
        distance, z = statistics.anderson_darling(pair.ranks, pair.n), statistics.mood_z(pair.ranks, pair.n)
        order = float(statistics.anderson_darling_p_value(distance, null.values))
        scale = float(statistics.mood_p_value(z, pair.n, pair.m, null.values))
        each = {"anderson-darling": order, "mood": scale}
        shape = min(order / ORDER_SHARE, scale / (1 - ORDER_SHARE), 1.0)
    share = _largest_change(shares, null)
    return Evidence(shape, share, each if share is None else {**each, "largest-share": share})


def categories(cells: Shares, null: Inflation) -> Evidence:
    """Test a column of categories by chi-square and by the largest change of one share.

    Chi-square sees a change over many cells; the largest change sees a single cell.

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


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold the result of one column's comparison.

    Attributes:
        rows, reference_rows: rows of the window and of the reference.
        gap_effect: PSI above noise of the missing values against all others.
        effective_rows: independent rows that the window is worth.
        inflation: how many times the null's variance is larger than with independent rows.
        variation: the part of the inflation by which the reference's own blocks differ beyond chance.
        distances: each distance of the table and its noise floor, None where one side has no values at all.
        note: what could not be compared, or None.
    """

    test: str
    evidence: Evidence
    rows: int
    reference_rows: int
    gap_effect: float
    effective_rows: float
    inflation: float
    variation: float
    distances: Distances
    current: ColumnSummary
    reference: ColumnSummary
    note: str | None

    @property
    def psi(self) -> float:
        """The population stability index of the histograms."""
        return self.distances["psi"]

    @property
    def psi_noise_floor(self) -> float:
        """The PSI to expect when nothing has changed."""
        return self.distances["psi_noise_floor"]

    @property
    def effect(self) -> float:
        """PSI above noise, never negative; of the missing values alone where that is more."""
        return max(self.psi - self.psi_noise_floor, self.gap_effect, 0.0)


def compare(
    reference: ReferenceColumn,
    window: NDArray[Any],
    inflation: float = 1.0,
    distinct: float = 1.0,
    grouped: Worth = Worth(),  # noqa: B008 - it is immutable
    before: GapsBefore | None = None,
) -> Comparison:
    """Compare a window's encoded column, of at least one row, with the reference's.

    Args:
        inflation: how many times the column varies more from window to window than sampling explains, at least 1.
        distinct: independent rows per row, as far as whole rows are copies of each other, at most 1.
        grouped: independent rows per row, as far as rows of one group resemble each other.
        before: the missing values of the window before, where this one alone says little about them.
    """
    window = snap(reference, window)
    present = sorted_present(reference.subject, window)
    counts, expected = reference.count(window, present), reference.counts
    worth = Independence.of(window).at_most(distinct).and_at_most(grouped.window)
    ours = reference.independence.and_at_most(grouped.reference)
    null = worth.inflation(len(window), ours, len(reference.values))
    null = Inflation(null.values * inflation, null.gaps * inflation)
    values = _few_values(reference, present)
    numeric = values is None and reference.subject.categories is None
    pair = Pair(reference.present, present) if len(reference.present) and len(present) else None
    if numeric:
        atoms = _atoms(reference.present, present)
        evidence = numbers(_without_atoms(pair, atoms), _gap_and_atoms(reference, window, present, atoms), null)
    else:
        evidence = categories(_cells(reference, window, values, present), null)
    if before is not None:
        evidence = _with_gaps_before(evidence, expected, counts, before, null.gaps)
    return Comparison(
        test=NUMERIC if numeric else CATEGORICAL,
        evidence=evidence,
        rows=len(window),
        reference_rows=len(reference.values),
        gap_effect=_gap_effect(expected, counts, null.gaps),
        effective_rows=worth.values * len(window),
        inflation=null.values,
        variation=inflation,
        distances=_distances(
            Samples(expected, counts, pair, reference.scale if pair is not None else None), null.values
        ),
        current=describe(reference.subject, present, counts, reference.bins),
        reference=reference.summary,
        note=_note(expected, counts),
    )


def _with_gaps_before(
    evidence: Evidence, expected: IntArray, counts: IntArray, gaps: GapsBefore, null: float
) -> Evidence:
    """Test the missing values of two windows together as well, each at half of alpha.

    A column of which 1 % has a value shows that it has died after twice as many rows.
    """
    sides = Shares(
        expected[-1:], int(expected.sum()), counts[-1:] + gaps.missing, int(counts.sum()) + gaps.rows, gaps=1
    )
    both = _largest_change(sides, Inflation(null, null))
    if both is None:
        return evidence
    share = min(2 * both, 1.0 if evidence.share is None else 2 * evidence.share, 1.0)
    return Evidence(evidence.shape, share, {**evidence.each, "missing-in-two-windows": both})


def _gap_effect(expected: IntArray, counts: IntArray, null: float) -> float:
    ours, theirs = (np.array([side[-1], side[:-1].sum()]) for side in (expected, counts))
    return statistics.psi(ours, theirs) - statistics.psi_noise_floor(ours, theirs) * null


def _few_values(reference: ReferenceColumn, present: FloatArray) -> FloatArray | None:
    """The values of both samples where each can be a cell of its own.

    It is None for categories and where order is tested.

    A reference that shows few values may have missed most: the window's values count as well.
    """
    if not isinstance(reference.bins, ValueBins):
        return None
    values = np.union1d(reference.present, present)
    return values if len(values) <= _MAX_VALUES_OF_BOTH else None


def _atoms(*sides: FloatArray) -> FloatArray:
    """The values that a fifth of the present rows or more have, such as zeros.

    They are counted in both samples together.

    Of the reference alone, they would be partly its luckiest.
    """
    rows = sum(len(side) for side in sides)
    fifths = [side[(np.arange(1, 10) * len(side)) // 10] for side in sides if len(side)]
    candidates = np.unique(np.concatenate(fifths)) if fifths else np.empty(0)
    return candidates[sum(count_equal(side, candidates) for side in sides) * 5 >= rows]


def _without_atoms(pair: Pair | None, atoms: FloatArray) -> Pair | None:
    """Order says little about values that many rows share; what remains without them, or None."""
    if pair is None or not len(atoms):
        return pair
    ours, theirs = without(pair.reference, atoms), without(pair.window, atoms)
    return Pair(ours, theirs) if len(ours) and len(theirs) else None


def _gap_and_atoms(reference: ReferenceColumn, window: NDArray[Any], present: FloatArray, atoms: FloatArray) -> Shares:
    """Count the missing values, then those that many rows share."""
    n, m = len(reference.values), len(window)
    ours = np.append(n - len(reference.present), count_equal(reference.present, atoms))
    return Shares(ours, n, np.append(m - len(present), count_equal(present, atoms)), m, gaps=1)


def _cells(reference: ReferenceColumn, window: NDArray[Any], values: FloatArray | None, present: FloatArray) -> Shares:
    """Count each value, or each category, that is frequent in both samples together.

    All others, unseen ones among them, are one cell; it and the missing values come first. Which values stand by
    themselves must not be read off one sample: see :func:`merge_rare`.
    """
    n, m = len(reference.values), len(window)
    if values is not None:
        sides = [(n, reference.present), (m, present)]
        counted = [np.append([0, rows - len(side)], count_equal(side, values)) for rows, side in sides]
        ours, theirs = merge_rare(counted[0], counted[1])
        ours, theirs = (np.append([side[0] + side[-1]], side[1:-1]) for side in (ours, theirs))
    else:
        known = len(reference.subject.categories or ())
        counted = [code_counts(side, known) for side in (reference.values, window)]
        ours, theirs = merge_rare(*merge_novel(counted[0], counted[1]))
    return Shares(ours, n, theirs, m, gaps=2)


def _distances(samples: Samples, inflation: float) -> Distances:
    """Measure every distance, and what it is when nothing has changed."""
    found: dict[str, float | None] = {}
    for statistic in DRIFT_STATISTICS:
        if statistic.is_distance:
            found[statistic.name] = distances.measure(statistic.name, samples)
            if statistic.noise_floor is not None:
                found[statistic.noise_floor] = distances.noise_floor(statistic.name, samples, inflation)
    return cast("Distances", found)  # the type names what the table has


def _note(expected: IntArray, counts: IntArray) -> str | None:
    sides = {"reference": expected, "window": counts}
    missing = [side for side, bins in sides.items() if bins[-1] == bins.sum()]
    if missing:
        return (
            f"every value is missing in the {' and the '.join(missing)}: only the share of missing values is compared"
        )
    if np.count_nonzero(expected) == 1:
        return "constant in the reference: only a change of its value can be seen"
    return None


def answers(schema: ModelSchema, window: Window) -> list[NDArray[Any]]:
    """Encode the window's predictions and the probability that is watched, if there is one.

    A class that the schema lacks, which only a table's target can hold, is unseen, not missing.
    """
    predictions = encode_labels(schema, window.predictions)
    if schema.classes and (predictions < 0).any():
        there = np.array([label is not None for label in window.predictions], dtype=np.bool_)
        predictions = np.where((predictions < 0) & there, UNSEEN, predictions)
    probabilities = encode_probabilities(schema, window.probabilities)
    return [predictions] if probabilities is None else [predictions, score_of(schema, probabilities)]


def compare_all(
    watched: Sequence[ReferenceColumn],
    arrays: Sequence[NDArray[Any]],
    errors: list[CheckError],
    inflations: Sequence[float] | None = None,
    distinct: float = 1.0,
    grouped: Sequence[Worth] | None = None,
    before: Sequence[GapsBefore | None] | None = None,
    pause: Pause = no_pause,
) -> list[Comparison | None]:
    """Compare each column; give None where that fails.

    ``errors`` gets an entry for a failure and for a column that says little.
    """
    wider, gaps = inflations or [1.0] * len(watched), before or [None] * len(watched)
    found = []
    for column, array, inflation, worth, lost in zip(
        watched, arrays, wider, grouped or [Worth()] * len(watched), gaps, strict=True
    ):
        pause()
        found.append(_compare(column, array, inflation, distinct, worth, lost, errors))
    return found


def _compare(
    column: ReferenceColumn,
    array: NDArray[Any],
    inflation: float,
    distinct: float,
    grouped: Worth,
    before: GapsBefore | None,
    errors: list[CheckError],
) -> Comparison | None:
    try:
        found = compare(column, array, inflation, distinct, grouped, before)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one column, the others are still compared
        errors.append({"feature": column.subject.name, "reason": f"not compared: {describe_error(error)}"})
        return None
    if found.note is not None:
        errors.append({"feature": column.subject.name, "reason": found.note})
    return found
