"""Rows and labels become arrays without losing a distinction, and copies of rows are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.check_request import Limits
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.encoding import (
    collisions,
    encode,
    encode_labels,
    encode_probabilities,
    row_codes,
    without_copies,
    worth,
)
from app.types import Feature, FeatureType, Label, ModelSchema, Task
from tests.monitoring.conftest import MakeReference, MakeWindow
from tests.support.calls import count_calls


def labels_of(*classes: Label) -> ModelSchema:
    """Make a schema that has classes and nothing else."""
    return ModelSchema("m", "1", Task.BINARY, (), classes)


def test_missing_and_unseen_are_apart(schema: ModelSchema) -> None:
    """A missing category is -1, an unseen one -2, a missing number NaN, and a boolean a number."""
    columns = encode(schema, [(1.5, 2, True, "shop"), (None, 3, False, None), (2, 4, True, "fax")])

    assert columns[0].tolist()[::2] == [1.5, 2.0]
    assert np.isnan(columns[0][1])
    assert columns[2].tolist() == [1.0, 0.0, 1.0]
    assert columns[3].tolist() == [1, -1, -2]
    assert [column.dtype.name for column in columns] == ["float64", "float64", "float64", "int32"]


@pytest.mark.parametrize("strange", ["text", float("inf"), 10**400, [1]], ids=["text", "infinity", "huge", "list"])
def test_what_is_no_number_is_missing(schema: ModelSchema, strange: object) -> None:
    """A value that no number column can hold is missing there, and its neighbours stay."""
    rows = [(1.0, 1, True, "web"), (strange, 1, True, "web")]
    income = encode(schema, rows)[0]  # type: ignore[arg-type]

    assert income[0] == 1.0
    assert np.isnan(income[1])


def test_nan_is_a_missing_category(schema: ModelSchema) -> None:
    """NaN, which data frames put where nothing is, counts as a missing category."""
    assert encode(schema, [(1.0, 1, True, float("nan"))])[3].tolist() == [-1]


def test_no_rows(schema: ModelSchema) -> None:
    """Without rows every column is there, and empty."""
    assert [len(column) for column in encode(schema, [])] == [0, 0, 0, 0]


@pytest.mark.parametrize("classes", [(0, 1), (False, True), (0.0, 1.0)])
def test_equal_labels_are_one_class(classes: tuple[Label, ...]) -> None:
    """0, 0.0 and false are the same class; "0" is none, and neither is nothing."""
    assert encode_labels(labels_of(*classes), [0, 0.0, False, "0", None, "", 1]).tolist() == [0, 0, 0, -1, -1, -1, 1]


def test_the_empty_text_is_a_label() -> None:
    """A class may be named by the empty text."""
    assert encode_labels(labels_of("", "x"), ["", "x", None]).tolist() == [0, 1, -1]


def test_numbers_are_labels_in_regression() -> None:
    """In regression a label is its number, and none is NaN."""
    found = encode_labels(ModelSchema("m", "1", Task.REGRESSION, ()), [1, 2.5, None, False])

    assert found[[0, 1, 3]].tolist() == [1.0, 2.5, 0.0]
    assert np.isnan(found[2])


def test_probabilities_keep_their_rows() -> None:
    """Rows without probabilities are NaN; where none has any there is no array."""
    schema = labels_of("a", "b")
    found = encode_probabilities(schema, [(0.2, 0.8), None])

    assert found is not None
    assert found[0].tolist() == [0.2, 0.8]
    assert np.isnan(found[1]).all()
    assert encode_probabilities(schema, [None, None]) is None


def test_a_large_window_is_quick() -> None:
    """A million values are encoded with less than a call each."""
    features = [Feature(f"x{position}", FeatureType.NUMERIC) for position in range(50)]
    features += [Feature(f"c{position}", FeatureType.CATEGORICAL, categories=("a", "b")) for position in range(50)]
    schema = ModelSchema("m", "1", Task.REGRESSION, tuple(features))
    row = (1.5,) * 50 + ("b",) * 50

    assert count_calls(lambda: encode(schema, [row] * 10_000)) < 10_000 * len(features)


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


def report(make_reference: MakeReference, make_window: MakeWindow, seed: int, shift: float) -> Any:
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
