"""The form of a data-quality finding, and the number of tests that could have made one; light to import."""

from __future__ import annotations

from app.types import Json

KINDS_OF_FINDING = (
    "missing_share",
    "out_of_range",
    "unseen_category",
    "type_change",
    "constant",
    "frozen",
    "outlier_share",
    "unreadable",
    "duplicates",
    "class_imbalance",
    "traffic",
    "freshness",
)
_TESTS_A_FEATURE = 7
"""Missing, constant, frozen, below and above the range, outliers, type; categories have fewer."""
_TESTS_A_WINDOW = 4
"""Duplicates, class imbalance, traffic, freshness."""


def quality_tests(features: int) -> int:
    """Count the tests among which a look's alpha for data quality is divided.

    >>> quality_tests(30)
    214
    """
    return features * _TESTS_A_FEATURE + _TESTS_A_WINDOW


def make_finding(feature: str | None, kind: str, value: float, limit: float, message: str) -> Json:
    """Put a finding into the form of ``GET /drift``; ``value`` has reached ``limit``."""
    return {"feature": feature, "kind": kind, "value": value, "limit": limit, "message": message}
