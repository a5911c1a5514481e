"""Columns of a reference: values that differ by rounding alone are equal to them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.check_request import Limits
from app.monitoring.drift.column_tests import compare
from app.monitoring.quality.report import data_quality
from app.monitoring.reference.columns import ReferenceColumn, Subject, snap
from app.monitoring.reference.encoding import encode_labels
from app.monitoring.reference.reference import Reference
from app.types import Feature, FeatureType, ModelSchema, Task


def tenths(rows: int, seed: int) -> NDArray[np.float64]:
    """Draw numbers with one digit, of which there are more than a hundred."""
    return np.round(np.random.default_rng(seed).normal(0, 20, rows)) / 10


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Send numbers through 32 bits."""
    return values.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("coarse", ["reference", "window"])
def test_tenths_of_32_and_of_64_bits_are_equal(coarse: str) -> None:
    """Whichever side went through 32 bits, the same numbers lie in the same bins and are no drift."""
    ours, theirs = tenths(5000, 1), tenths(1000, 2)
    ours, theirs = (rounded(ours), theirs) if coarse == "reference" else (ours, rounded(theirs))
    reference = ReferenceColumn(Subject("x", "numeric"), ours)

    found = compare(reference, snap(reference, theirs))

    assert found.effect < 0.01
    assert found.evidence.p_value > 1e-3


def test_whole_numbers_and_new_values_stay() -> None:
    """Large whole numbers that differ stay different, and so does a value that no rounding explains."""
    reference = ReferenceColumn(Subject("x", "numeric"), np.array([1e9, 1e9, 0.1, 0.1]))

    found = snap(reference, np.array([1e9 + 1, 0.1000001, np.nan, 0.1 + 1e-10]))

    assert found.tolist()[:2] == [1e9 + 1, 0.1000001]
    assert np.isnan(found[2])
    assert found[3] == 0.1


def test_a_last_digit_is_not_out_of_range() -> None:
    """A bound that went through 32 bits still holds the values that lie on it."""
    low = float(np.log(1e-6))
    feature = Feature("x", FeatureType.NUMERIC, low=low)
    schema = ModelSchema("m", "1", Task.REGRESSION, (feature,))
    values = np.where(np.arange(1000) % 13 == 0, low, np.random.default_rng(3).normal(size=1000))
    reference = Reference(schema, [values + 1e-9 * (values > low)], np.zeros(1000))

    found = data_quality(schema, reference, [rounded(values)], Limits(alpha=1e-3))

    assert found["findings"] == []


def test_classes_are_found_after_rounding() -> None:
    """A class that is a fraction is known from 32 bits as well; another fraction is not."""
    schema = ModelSchema("m", "1", Task.BINARY, (), classes=(0.1, 0.9), positive=0.9)

    assert encode_labels(schema, [0.8999999761581421, 0.1, 0.5]).tolist() == [1, 0, -1]
