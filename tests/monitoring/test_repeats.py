"""Copies of rows tell nothing new: a window of them is worth fewer rows, and does not look like drift."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.drift import drift_report
from app.monitoring.limits import Limits
from app.monitoring.repeats import collisions, row_codes, without_copies, worth
from app.types import Feature, FeatureType, Json, ModelSchema, Task
from tests.monitoring.conftest import MakeReference, MakeWindow

SCHEMA = ModelSchema("m", "1", Task.REGRESSION, tuple(Feature(f"x{i}", FeatureType.NUMERIC) for i in range(8)))
LIMITS = Limits(alpha=1e-3)


def drawn(rows: int, different: int, seed: int = 1) -> list[NDArray[np.float64]]:
    """Two columns of so many rows, each drawn from so many different ones."""
    rng = np.random.default_rng(seed)
    return list(rng.normal(size=(2, different))[:, rng.integers(0, different, rows)])


@pytest.mark.parametrize(("rows", "different"), [(300, 90), (1000, 200), (5000, 500)])
def test_copies_count_as_what_they_were_drawn_from(rows: int, different: int) -> None:
    """A window of m rows drawn from h different ones is worth 1 / (1/m + 1/h)."""
    found = worth(row_codes(drawn(rows, different)), natural=0.0) * rows

    assert found == pytest.approx(1 / (1 / rows + 1 / different), rel=0.1)


def test_different_rows_count_in_full() -> None:
    """Where no row comes twice, or as often as in the reference, or repeats are natural, every row counts."""
    categories = [np.random.default_rng(2).integers(0, 4, 1000).astype(np.int32)]

    assert worth(row_codes(drawn(500, 10**7)), natural=0.0) == 1.0
    assert worth(row_codes(categories), natural=collisions(row_codes(categories))) == 1.0
    assert without_copies(categories, row_codes(categories), 0.25)[0] is categories[0]


def test_a_single_row_is_worth_a_verdict() -> None:
    """A window of one row over and over is judged as fifty rows, not excused."""
    assert worth(row_codes([np.ones(400)]), natural=0.0) * 400 == 50


def test_missing_values_are_equal() -> None:
    """A row with a gap is the copy of the same row; the first of them is kept, in its place."""
    columns = [np.array([1.0, np.nan, 1.0, np.nan]), np.array([0.0, 2.0, -0.0, 2.0])]

    assert [column.tolist()[0] for column in without_copies(columns, row_codes(columns), 0.0)] == [1.0, 0.0]
    assert len(without_copies(columns, row_codes(columns), 0.0)[0]) == 2


def report(make_reference: MakeReference, make_window: MakeWindow, seed: int, shift: float) -> Json:
    """A window of 1,000 rows, drawn from 150 different ones of the reference's law, or of a shifted one."""
    rng = np.random.default_rng(seed)
    known = make_reference(rng.normal(size=(150, 8)).tolist(), SCHEMA)
    pool = rng.normal(size=(150, 8)) + shift * (np.arange(8) == 0)
    rows = pool[rng.integers(0, 150, 1000)].tolist()
    return drift_report(SCHEMA, known, make_window(rows, predictions=[0.0] * 1000), LIMITS, None)


def test_a_window_of_copies_is_no_drift(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """Rows that are sent again and again do not alarm by it, neither one by one nor jointly; a shift of them does."""
    quiet = [report(make_reference, make_window, seed, 0.0) for seed in range(25)]
    moved = report(make_reference, make_window, 99, 1.2)

    assert [each["status"] for each in quiet] == ["stable"] * 25
    assert min(entry["adjusted_p_value"] for each in quiet for entry in each["features"].values()) > LIMITS.alpha
    assert all(110 < each["window"]["effective_rows"] < 150 for each in quiet)
    assert moved["drifted_features"] == ["x0"]
