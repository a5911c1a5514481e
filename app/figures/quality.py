"""The lists of data-quality checks: their length is the number of tests in the false-alarm budget.

The report, the budget, ``/metrics`` and ``docs/data-quality.md`` read them, and ``tests/test_figures.py`` fails where
an entry is missing in one of them. The functions stand in ``app/monitoring/quality``, since the serving process reads
these lists and never loads SciPy.
"""

from __future__ import annotations

from typing import NamedTuple

from app.types import FeatureType

NUMBERS = (FeatureType.NUMERIC, FeatureType.INTEGER)


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
    types: tuple[FeatureType, ...] = tuple(FeatureType)
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
        (FeatureType.CATEGORICAL,),
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


def checks_of(feature_type: FeatureType) -> tuple[QualityCheck, ...]:
    """List the tests of a feature of this type.

    >>> [check.name for check in checks_of(FeatureType.BOOLEAN)]
    ['missing_share', 'constant']
    """
    return tuple(check for check in FEATURE_CHECKS if feature_type in check.types)
