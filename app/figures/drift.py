"""The table of drift statistics: each figure that a column's entry in a drift report has.

It is the one list of its kind: the report, ``/metrics``, the rules, the report page and ``docs/drift.md`` read it, and
``tests/test_figures.py`` fails where an entry is missing in one of them. The functions of the distances stand in
``app/statistics/distances.py``, since the serving process reads this table and never loads SciPy.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from app.types import FeatureType, Json


class DriftStatistic(NamedTuple):
    """A figure of one column's drift.

    Attributes:
        name: the field of the column's entry in a drift report, and the label ``statistic`` of ``ml_drift_statistic``.
        title: what the report page calls it.
        description: one sentence for the documentation.
        unit: what its value counts.
        more_drift: whether a larger or a smaller value means more drift.
        noise_floor: the field that holds what to expect of it when nothing has changed.
        is_distance: whether ``app.statistics.distances`` measures it between the two samples.
        types: the types of feature that have it.
        place: the part of the entry in which the field stands.
    """

    name: str
    title: str
    description: str
    unit: str
    more_drift: Literal["larger", "smaller"] = "larger"
    noise_floor: str | None = None
    is_distance: bool = False
    types: tuple[FeatureType, ...] = tuple(FeatureType)
    place: tuple[str, ...] = ()

    def value_in(self, entry: Json) -> float | None:
        """Read the figure from a column's entry in a drift report; None where the entry has none."""
        found: Any = entry
        for key in (*self.place, self.name):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, int | float) else None


ORDERED = (FeatureType.NUMERIC, FeatureType.INTEGER, FeatureType.BOOLEAN)
"""Types of feature whose values have an order."""

DRIFT_STATISTICS = (
    DriftStatistic(
        "p_value",
        "p",
        "The smallest p-value of the column's tests, corrected for their number.",
        "probability",
        more_drift="smaller",
    ),
    DriftStatistic(
        "adjusted_p_value",
        "p, adjusted",
        "The p-value after the correction for all columns; a drift is significant at or below the alpha of the look.",
        "probability",
        more_drift="smaller",
    ),
    DriftStatistic(
        "psi",
        "PSI",
        "The population stability index of the histograms; it decides whether a drift is material.",
        "nats",
        noise_floor="psi_noise_floor",
        is_distance=True,
    ),
    DriftStatistic(
        "js_distance",
        "Jensen-Shannon",
        "The Jensen-Shannon distance of the histograms, from 0 (equal) to 1 (disjoint).",
        "0 to 1",
        noise_floor="js_noise_floor",
        is_distance=True,
    ),
    DriftStatistic(
        "total_variation",
        "total variation",
        "The share of rows that would have to change bins to make the histograms alike.",
        "share of rows",
        noise_floor="total_variation_noise_floor",
        is_distance=True,
    ),
    DriftStatistic(
        "ks_statistic",
        "Kolmogorov-Smirnov",
        "The largest distance of the two distribution functions.",
        "0 to 1",
        noise_floor="ks_noise_floor",
        is_distance=True,
        types=ORDERED,
    ),
    DriftStatistic(
        "wasserstein",
        "Wasserstein",
        "The mean distance of the quantiles, in robust standard deviations of the reference.",
        "sd",
        noise_floor="wasserstein_noise_floor",
        is_distance=True,
        types=ORDERED,
    ),
    DriftStatistic(
        "cramer_von_mises",
        "Cramér-von Mises",
        "The squared distance of the distribution functions; 1/6 on average for independent rows without any change.",
        "none",
        is_distance=True,
        types=ORDERED,
    ),
    DriftStatistic(
        "impact",
        "impact",
        "PSI above its noise floor, weighed by how much the model's answer depends on the feature; ranks causes.",
        "0 to 1",
    ),
    DriftStatistic(
        "missing_share",
        "missing",
        "The share of rows without a value.",
        "share of rows",
        place=("current",),
    ),
)
