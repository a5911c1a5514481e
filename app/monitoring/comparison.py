"""One watched column of the window against the same column of the reference: the tests that decide, and the effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring import statistics
from app.monitoring.binning import QuantileBins, code_counts, merge_rare
from app.monitoring.columns import ReferenceColumn, describe, sorted_present
from app.monitoring.statistics import FloatArray, IntArray
from app.types import Json


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one column's comparison found.

    Attributes:
        p_value: of "nothing has changed", corrected over the tests within the column.
        psi_noise_floor: the PSI to expect when nothing has changed.
        ks_statistic, wasserstein: None for categories, and where one side has no values at all.
        note: what could not be compared, or None.
    """

    test: str
    p_value: float
    psi: float
    psi_noise_floor: float
    js_distance: float
    ks_statistic: float | None
    wasserstein: float | None
    current: Json
    reference: Json
    note: str | None

    @property
    def effect(self) -> float:
        """PSI above noise, never negative."""
        return max(self.psi - self.psi_noise_floor, 0.0)


def compare(reference: ReferenceColumn, window: NDArray[Any]) -> Comparison:
    """Compare a window's encoded column, of one entry per row and at least one row, with the reference's."""
    subject, bins, expected = reference.subject, reference.bins, reference.counts
    present, counts = sorted_present(subject, window), bins.counts(window)
    distance = area = None
    if len(present) and len(reference.present):
        distance = statistics.ks_statistic(reference.present, present)
        area = statistics.wasserstein(reference.present, present)
    if isinstance(bins, QuantileBins):
        test, p_value = "kolmogorov-smirnov+missing-share", _number_p_value(reference, len(present), distance, counts)
    else:
        test, p_value = "chi-square+largest-share", _category_p_value(*_tested(reference, window, counts))
    return Comparison(
        test=test,
        p_value=p_value,
        psi=statistics.psi(expected, counts),
        psi_noise_floor=statistics.psi_noise_floor(expected, counts),
        js_distance=statistics.js_distance(expected, counts),
        ks_statistic=distance,
        wasserstein=area,
        current=describe(subject, present, counts, bins),
        reference=describe(subject, reference.present, expected, bins),
        note=_note(expected, counts),
    )


def _number_p_value(reference: ReferenceColumn, present: int, distance: float | None, counts: IntArray) -> float:
    """Order of the present values, and the share of missing ones, each where there is something to test."""
    p_values = []
    if distance is not None:
        p_values.append(statistics.ks_p_value(distance, len(reference.present), present))
    if reference.counts[-1] or counts[-1]:
        p_values.append(float(_share_p_values(reference.counts[-1:], reference.counts, counts[-1:], counts)[0]))
    return statistics.smallest_p_value(np.array(p_values))


def _tested(reference: ReferenceColumn, window: NDArray[Any], counts: IntArray) -> tuple[IntArray, IntArray]:
    """Pick the counts to test: by value, or the categories that are frequent in both samples together."""
    if reference.subject.categories is None:
        return reference.counts, counts
    known = len(reference.subject.categories)
    return merge_rare(code_counts(reference.values, known), code_counts(window, known))


def _category_p_value(expected: IntArray, counts: IntArray) -> float:
    """Chi-square sees a change spread over many bins; the largest change of one share, exact, sees a single bin."""
    used = (expected + counts) > 0
    broad = statistics.homogeneity_p_value(expected[used], counts[used])
    single = statistics.smallest_p_value(_share_p_values(expected[used], expected, counts[used], counts))
    return statistics.smallest_p_value(np.array([broad, single]))


def _share_p_values(ours: IntArray, expected: IntArray, theirs: IntArray, counts: IntArray) -> FloatArray:
    return statistics.share_p_values(ours, int(expected.sum()), theirs, int(counts.sum()))


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
