"""Rows and labels become arrays without losing a distinction that matters."""

from __future__ import annotations

import time

import numpy as np
import pytest

from app.monitoring.encoding import encode, encode_labels, encode_probabilities
from app.types import Feature, FeatureType, Label, ModelSchema, Task


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
    """A million values are encoded in far less than the time between two checks."""
    features = [Feature(f"x{position}", FeatureType.NUMERIC) for position in range(50)]
    features += [Feature(f"c{position}", FeatureType.CATEGORICAL, categories=("a", "b")) for position in range(50)]
    schema = ModelSchema("m", "1", Task.REGRESSION, tuple(features))
    row = (1.5,) * 50 + ("b",) * 50
    started = time.thread_time()
    encode(schema, [row] * 10_000)

    assert time.thread_time() - started < 2.0
