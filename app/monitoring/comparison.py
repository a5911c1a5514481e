"""One watched column of the window against the same column of the reference: the tests that decide, and the effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring import deciding, statistics
from app.monitoring.binning import QuantileBins, code_counts, count_equal, merge_rare
from app.monitoring.columns import ReferenceColumn, describe, sorted_present, without
from app.monitoring.deciding import Evidence, Shares
from app.monitoring.independence import Independence, Inflation
from app.monitoring.statistics import FloatArray, IntArray, Pair
from app.types import Json

_OF_NUMBERS = ("ks_statistic", "ks_noise_floor", "wasserstein", "wasserstein_noise_floor", "cramer_von_mises")
"""Effect sizes that only numbers have."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one column's comparison found.

    Attributes:
        psi_noise_floor: the PSI to expect when nothing has changed.
        gap_effect: PSI above noise of the missing values against all others.
        effective_rows: independent rows that the window is worth.
        inflation: how many times the null's variance is larger than with independent rows.
        distances: further effect sizes, None where one side has no values at all.
        note: what could not be compared, or None.
    """

    test: str
    evidence: Evidence
    psi: float
    psi_noise_floor: float
    gap_effect: float
    effective_rows: float
    inflation: float
    distances: Json
    current: Json
    reference: Json
    note: str | None

    @property
    def effect(self) -> float:
        """PSI above noise, never negative; of the missing values alone where that is more."""
        return max(self.psi - self.psi_noise_floor, self.gap_effect, 0.0)


def compare(
    reference: ReferenceColumn, window: NDArray[Any], inflation: float = 1.0, distinct: float = 1.0
) -> Comparison:
    """Compare a window's encoded column, of one entry per row and at least one row, with the reference's.

    Args:
        inflation: how many times the column varies more from window to window than sampling explains, at least 1.
        distinct: independent rows per row, as far as whole rows are copies of each other, at most 1.
    """
    present = sorted_present(reference.subject, window)
    counts, expected = reference.count(window, present), reference.counts
    worth = Independence.of(window).at_most(distinct)
    null = worth.inflation(len(window), reference.independence, len(reference.values))
    null = Inflation(null.values * inflation, null.gaps * inflation)
    numeric = isinstance(reference.bins, QuantileBins)
    pair = Pair(reference.present, present) if len(reference.present) and len(present) else None
    if numeric:
        evidence = deciding.numbers(_without_atoms(reference, pair), _gap_and_atoms(reference, window, present), null)
    else:
        evidence = deciding.categories(_cells(reference, window, counts), null)
    return Comparison(
        test=deciding.NUMERIC if numeric else deciding.CATEGORICAL,
        evidence=evidence,
        psi=statistics.psi(expected, counts),
        psi_noise_floor=statistics.psi_noise_floor(expected, counts) * null.values,
        gap_effect=_gap_effect(expected, counts, null.gaps),
        effective_rows=worth.values * len(window),
        inflation=null.values,
        distances=_distances(reference, counts, pair, null.values),
        current=describe(reference.subject, present, counts, reference.bins),
        reference=reference.summary,
        note=_note(expected, counts),
    )


def _gap_effect(expected: IntArray, counts: IntArray, null: float) -> float:
    ours, theirs = (np.array([side[-1], side[:-1].sum()]) for side in (expected, counts))
    return statistics.psi(ours, theirs) - statistics.psi_noise_floor(ours, theirs) * null


def _without_atoms(reference: ReferenceColumn, pair: Pair | None) -> Pair | None:
    """Order says little about values that many rows share; what remains without them, or None."""
    if pair is None or not len(reference.atoms):
        return pair
    ours, theirs = reference.spread_out, without(pair.window, reference.atoms)
    return Pair(ours, theirs) if len(ours) and len(theirs) else None


def _gap_and_atoms(reference: ReferenceColumn, window: NDArray[Any], present: FloatArray) -> Shares:
    """Count the missing values, then those that many rows share."""
    n, m = len(reference.values), len(window)
    ours = np.append(n - len(reference.present), count_equal(reference.present, reference.atoms))
    return Shares(ours, n, np.append(m - len(present), count_equal(present, reference.atoms)), m, gaps=1)


def _cells(reference: ReferenceColumn, window: NDArray[Any], counts: IntArray) -> Shares:
    """Count each value, or the categories that are frequent in both samples together; gaps come first."""
    if reference.subject.categories is None:
        ours, theirs = np.roll(reference.counts, 2), np.roll(counts, 2)
    else:
        known = len(reference.subject.categories)
        ours, theirs = merge_rare(code_counts(reference.values, known), code_counts(window, known))
    return Shares(ours, len(reference.values), theirs, len(window), gaps=2)


def _distances(reference: ReferenceColumn, counts: IntArray, pair: Pair | None, null: float) -> Json:
    """Measure further effect sizes, and what they are when nothing has changed."""
    expected, wider = reference.counts, float(np.sqrt(null))
    found: Json = {
        "js_distance": statistics.js_distance(expected, counts),
        "js_noise_floor": statistics.js_noise_floor(expected, counts) * wider,
        "total_variation": statistics.total_variation(expected, counts),
        "total_variation_noise_floor": statistics.total_variation_noise_floor(expected, counts) * wider,
    }
    if pair is None:
        return found | dict.fromkeys(_OF_NUMBERS)
    values = (
        statistics.ks_statistic(pair),
        statistics.ks_noise_floor(pair.n, pair.m) * wider,
        reference.scale.wasserstein(pair.window),
        reference.scale.noise_floor(pair.n, pair.m) * wider,
        float(statistics.cramer_von_mises(pair.ranks, pair.n)),
    )
    return found | dict(zip(_OF_NUMBERS, values, strict=True))


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
