"""A column that hardly ever has a value: that it has died shows in two windows together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.monitoring.check_request import DRIFT_SHARE, Limits, alpha_per_look
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.reference import Reference
from app.statistics import FloatArray
from app.store.queries.windows import Window
from app.types import SECOND, Feature, FeatureType, Micros, ModelSchema, Row, Task

FEATURES, ROWS, REFERENCE = 20, 1_000, 10_000
SCHEMA = ModelSchema(
    "m",
    "1",
    Task.BINARY,
    tuple(Feature(f"f{place}", FeatureType.NUMERIC, nullable=True) for place in range(FEATURES)),
    (0, 1),
    1,
)
LIMITS = Limits(alpha_per_look(60, 30 * 86_400) * DRIFT_SHARE)


def draw(rows: int, seed: int, present: float) -> FloatArray:
    """Normal features, of which the first has a value in few rows."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(rows, FEATURES))
    columns[rng.random(rows) >= present, 0] = np.nan
    return columns


def window(columns: FloatArray, start: int) -> Window:
    """A window of these rows, one a second."""
    features: list[Row] = [tuple(None if np.isnan(value) else value for value in row) for row in columns.tolist()]
    nothing: list[Any] = [None] * ROWS
    times = [Micros((start + row) * SECOND) for row in range(ROWS)]
    return Window([f"{at}" for at in times], features, [0] * ROWS, nothing, times, ROWS, 0.0, nothing, nothing, nothing)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Ten thousand rows, of which 1 % have a value in the first feature."""
    return Reference(SCHEMA, list(draw(REFERENCE, 1, 0.01).T), np.zeros(REFERENCE, dtype=np.int64), sha256="abc")


def look(reference: Reference, seed: int, *present: float) -> Any:
    """The report on the last of two windows with these shares of values."""
    before, now = (window(draw(ROWS, seed + place, each), place * ROWS) for place, each in enumerate(present))
    return drift_report(SCHEMA, reference, now, LIMITS, None, earlier=before)


def test_a_column_of_few_values_that_dies_is_found_within_two_windows(reference: Reference) -> None:
    """At 1,000 rows and the default budget, one dead window is too little, and two are a drift."""
    half = look(reference, 10, 0.01, 0.0)
    whole = look(reference, 10, 0.0, 0.0)

    assert half["drifted_features"] == []
    assert whole["drifted_features"] == ["f0"]
    assert whole["features"]["f0"]["tests"]["missing-in-two-windows"] < 1e-7


def test_two_windows_take_no_more_than_their_part_of_alpha(reference: Reference) -> None:
    """Over quiet pairs of windows, the p-value of both tests together is below 5 % in at most 5 %, but for chance."""
    found = [look(reference, 100 + 2 * seed, 0.01, 0.01)["features"]["f0"] for seed in range(60)]

    assert sum(entry["p_value"] <= 0.05 for entry in found) <= 8
    assert {entry["status"] for entry in found} == {"stable"}


def test_other_columns_are_tested_in_one_window(reference: Reference) -> None:
    """Where a window has values enough, its tests are as they were."""
    report = look(reference, 10, 0.01, 0.01)

    assert "missing-in-two-windows" not in report["features"]["f1"]["tests"]
