"""The tables of drift statistics and of data-quality checks.

Each is the one list of its kind: the report, ``/metrics``, the rules, the report page, the false-alarm budget and the
documentation read them, and ``tests/figures`` fails where an entry is missing in one of them. The functions stand in
``app/statistics/distances.py`` and ``app/monitoring/quality``, since the serving process reads these tables and never
loads SciPy. The lists of checks are as long as the number of tests in the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from typing_extensions import TypedDict

TypeName: TypeAlias = Literal["numeric", "integer", "boolean", "categorical"]
"""A member of :class:`app.types.FeatureType`; that module stands above this one."""
ALL: tuple[TypeName, ...] = ("numeric", "integer", "boolean", "categorical")
ORDERED: tuple[TypeName, ...] = ("numeric", "integer", "boolean")
"""Types of feature whose values have an order."""
NUMBERS: tuple[TypeName, ...] = ("numeric", "integer")


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
    types: tuple[TypeName, ...] = ALL
    place: tuple[str, ...] = ()

    def value_in(self, entry: Mapping[str, Any]) -> float | None:
        """Read the figure from a column's entry in a drift report; None where the entry has none."""
        found: Any = entry
        for key in (*self.place, self.name):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, int | float) else None


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
        "The mean distance of the quantiles, in robust standard deviations of the reference; in standard deviations "
        "where half of its values are equal.",
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


class DriftSummary(NamedTuple):
    """A figure of a whole drift report.

    Attributes:
        name: behind ``drift.`` the name of the figure in rules.
        series: the gauge on ``/metrics``.
        description: one sentence for the documentation.
        part: the list or the features of the report that it is made of.
        statistic: what is compared over the features; None where entries are counted.
        extreme: the end of the features' values that it gives.
    """

    name: str
    series: str
    description: str
    part: str
    statistic: str | None = None
    extreme: Literal["largest", "smallest"] = "largest"

    def value_in(self, body: Mapping[str, Any]) -> float | None:
        """Read the figure from the body of a report; None where the report has none.

        >>> DRIFT_SUMMARIES[0].value_in({"features": {"a": {"psi": 0.1}, "b": {"psi": 0.3}, "c": {}}})
        0.3
        """
        part = body.get(self.part)
        if self.statistic is None:
            return float(len(part)) if isinstance(part, list) and body.get("drift_share") is not None else None
        values = [entry.get(self.statistic) for entry in (part or {}).values()]
        found = [value for value in values if isinstance(value, int | float)]
        return (max if self.extreme == "largest" else min)(found, default=None)


DRIFT_SUMMARIES = (
    DriftSummary("psi_max", "ml_drift_psi_max", "The largest PSI of a feature.", "features", "psi"),
    DriftSummary(
        "p_value_min",
        "ml_drift_p_value_min",
        "The smallest adjusted p-value of a feature.",
        "features",
        "adjusted_p_value",
        "smallest",
    ),
    DriftSummary(
        "drifted_features",
        "ml_drift_drifted_features",
        "The number of drifted features; absent without a verdict.",
        "drifted_features",
    ),
)
"""Figures over all features, for rules and for those who watch one number."""


class Distances(TypedDict):
    """Effect sizes, each with the value to expect when nothing has changed.

    Some are of numbers only, else null.
    """

    psi: float
    psi_noise_floor: float
    js_distance: float
    js_noise_floor: float
    total_variation: float
    total_variation_noise_floor: float
    ks_statistic: float | None
    ks_noise_floor: float | None
    wasserstein: float | None
    """In units of the reference's spread."""
    wasserstein_noise_floor: float | None
    cramer_von_mises: float | None


EXAMPLE_OF_NUMBERS: Distances = {
    "psi": 0.31,
    "psi_noise_floor": 0.012,
    "js_distance": 0.18,
    "js_noise_floor": 0.03,
    "total_variation": 0.16,
    "total_variation_noise_floor": 0.03,
    "ks_statistic": 0.2,
    "ks_noise_floor": 0.03,
    "wasserstein": 0.41,
    "wasserstein_noise_floor": 0.04,
    "cramer_von_mises": 6.1,
}
"""The distances of a column that has all of them, in the description of the API."""
EXAMPLE_OF_CATEGORIES: Distances = {
    "psi": 0.0002,
    "psi_noise_floor": 0.001,
    "js_distance": 0.01,
    "js_noise_floor": 0.01,
    "total_variation": 0.01,
    "total_variation_noise_floor": 0.01,
    "ks_statistic": None,
    "ks_noise_floor": None,
    "wasserstein": None,
    "wasserstein_noise_floor": None,
    "cramer_von_mises": None,
}
"""The distances of a column without an order."""


class QualityCheck(NamedTuple):
    """One test of data quality: an entry here is a test in the false-alarm budget.

    Attributes:
        name: of the test.
        kind: of its findings, the label ``kind`` of ``ml_data_quality_findings``; two tests may share one.
        description: one sentence for the documentation.
        compared_with: what a window's value is held against.
        types: the types of feature that have it; empty for a test of whole rows.
        unless: a kind of finding in the same column that says the same already.
    """

    name: str
    kind: str
    description: str
    compared_with: str
    types: tuple[TypeName, ...] = ALL
    unless: str | None = None


FEATURE_CHECKS = (
    QualityCheck("missing_share", "missing_share", "Rows have no value.", "the same share in the reference"),
    QualityCheck(
        "constant", "constant", "Every value of the window is the same one.", "that value's share in the reference"
    ),
    QualityCheck(
        "unseen_category",
        "unseen_category",
        "Rows have a category that the schema does not know.",
        "the reference's rate of novelty",
        ("categorical",),
    ),
    QualityCheck(
        "frozen",
        "frozen",
        "The latest rows of a number that varies have one value, and it is a rare one.",
        "the chance of such a run",
        NUMBERS,
    ),
    QualityCheck(
        "below_range",
        "out_of_range",
        "Numbers lie below the schema's lower bound.",
        "the share below it in the reference",
        NUMBERS,
    ),
    QualityCheck(
        "above_range",
        "out_of_range",
        "Numbers lie above the schema's upper bound.",
        "the share above it in the reference",
        NUMBERS,
    ),
    QualityCheck(
        "outlier_share",
        "outlier_share",
        "Values lie more than three interquartile ranges beyond the reference's quartiles, inside the bounds.",
        "the share in the reference",
        NUMBERS,
        unless="out_of_range",
    ),
    QualityCheck(
        "type_change",
        "type_change",
        "A feature whose reference holds whole numbers only has fractions.",
        "none",
        NUMBERS,
    ),
)
"""The tests of one feature, in the order in which they run and their findings are listed."""
WINDOW_CHECKS = (
    QualityCheck(
        "duplicates",
        "duplicates",
        "Rows equal an earlier row, in the features that have no finding of their own.",
        "repeats in as many rows of the reference",
        (),
    ),
    QualityCheck(
        "class_imbalance",
        "class_imbalance",
        "The most frequent answer has risen by ten points or more; not judged with an in-sample reference.",
        "that class's share",
        (),
    ),
    QualityCheck(
        "freshness",
        "freshness",
        "No row has come for five minutes or more.",
        "the quietest of the same stretches of time an hour, a day and a week earlier",
        (),
    ),
    QualityCheck(
        "traffic",
        "traffic",
        "The last hour has at most half the rows of the same hour earlier.",
        "the quietest of the same hours an hour, a day and a week earlier",
        (),
        unless="freshness",
    ),
)
"""The tests of whole rows and of when they came."""
UNREADABLE = "unreadable"
"""The kind of finding of a column that could not be judged; it is no test."""


def finding_kinds() -> tuple[str, ...]:
    """List every kind of finding."""
    return (*dict.fromkeys(check.kind for check in (*FEATURE_CHECKS, *WINDOW_CHECKS)), UNREADABLE)


def checks_of(feature_type: str) -> tuple[QualityCheck, ...]:
    """List the tests of a feature of this type.

    >>> [check.name for check in checks_of("boolean")]
    ['missing_share', 'constant']
    """
    return tuple(check for check in FEATURE_CHECKS if feature_type in check.types)


class UnusualFeature(TypedDict):
    """A feature that makes a row unusual; ``score`` is its surprise in nats."""

    feature: str
    score: float


class UnusualRow(TypedDict):
    """A row that is more unusual than nearly all rows of the reference."""

    prediction_id: str
    p_value: float
    """The share of the reference's rows that are at least as unusual."""
    score: float
    features: list[UnusualFeature]


class UnusualRows(TypedDict):
    """The window's unusual rows; ``reason`` says why none were looked for."""

    status: Literal["judged", "not_judged"]
    reason: str | None
    rate: float | None
    """The largest p-value of an unusual row: so many rows of an unchanged window have it by chance."""
    expected_rows: float | None
    count: int
    rows: list[UnusualRow]
    """The most unusual first, up to 20."""


def no_unusual_rows(reason: str) -> UnusualRows:
    """Say why no row was judged."""
    return {"status": "not_judged", "reason": reason, "rate": None, "expected_rows": None, "count": 0, "rows": []}
