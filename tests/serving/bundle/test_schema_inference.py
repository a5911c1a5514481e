"""The schema is read off the data as a person would read it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.errors import BundleError
from app.serving.bundle.schema_inference import MAX_CATEGORIES, infer_features, rows_of, widen
from app.types import Feature, FeatureType


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 5], Feature("x", FeatureType.INTEGER, low=1, high=5)),
        ([1.5, None], Feature("x", FeatureType.NUMERIC, nullable=True, low=1.5, high=1.5)),
        ([True, False], Feature("x", FeatureType.BOOLEAN)),
        ([True, None], Feature("x", FeatureType.BOOLEAN, nullable=True)),
        (["b", "a", "b"], Feature("x", FeatureType.CATEGORICAL, categories=("a", "b"))),
        (["b", None], Feature("x", FeatureType.CATEGORICAL, nullable=True, categories=("b",))),
        (["", "0"], Feature("x", FeatureType.CATEGORICAL, categories=("", "0"))),
        (pd.Categorical([3, 1]), Feature("x", FeatureType.CATEGORICAL, categories=(1, 3))),
        (pd.array([1, None], dtype="Int64"), Feature("x", FeatureType.INTEGER, nullable=True, low=1, high=1)),
        ([None, None], Feature("x", FeatureType.CATEGORICAL, nullable=True)),
        ([np.nan, np.nan], Feature("x", FeatureType.NUMERIC, nullable=True)),
    ],
    ids=str,
)
def test_types(values: Any, expected: Feature) -> None:
    """Each kind of column gets the type, bounds, categories and nullability that its values show."""
    assert infer_features(pd.DataFrame({"x": values})) == (expected,)


@pytest.mark.parametrize(
    "values", [[pd.Timestamp("2026-01-01")], [[1], [2]], ["a", 1], [1 + 2j], pd.Categorical([1.5])], ids=str
)
def test_unusable_columns(values: Any) -> None:
    """A column that no model takes and no request carries is refused by its name."""
    with pytest.raises(BundleError, match=r"^column x: holds .*; convert or drop it$"):
        infer_features(pd.DataFrame({"x": values}))


def test_infinite() -> None:
    """Infinite numbers are refused, since no request can carry them."""
    with pytest.raises(BundleError, match="column x: holds infinite numbers"):
        infer_features(pd.DataFrame({"x": [1.0, np.inf]}))


def test_many_categories() -> None:
    """Of very many categories the most frequent are kept, in alphabetical order."""
    values = [f"id{number:05}" for number in range(MAX_CATEGORIES + 200)]
    frame = pd.DataFrame({"x": values + values[-150:]})

    [feature] = infer_features(frame)

    assert len(feature.categories) == MAX_CATEGORIES
    assert sorted(map(str, feature.categories)) == list(feature.categories)
    assert set(values[-150:]) <= set(feature.categories)


def test_rows() -> None:
    """Rows are plain Python values in schema order, with None for whatever stands for missing."""
    frame = pd.DataFrame(
        {"a": np.array([1, 2], dtype="int8"), "b": [np.nan, 0.5], "c": ["x", None], "d": [True, False]}
    )

    rows = rows_of(infer_features(frame), frame)

    assert rows == [(1, None, "x", True), (2, 0.5, None, False)]
    assert [int, float, type(None), bool] == [type(value) for value in rows[1]]


@pytest.mark.parametrize(
    ("kind", "values"), [(FeatureType.NUMERIC, ["1.5"]), (FeatureType.BOOLEAN, [2]), (FeatureType.INTEGER, ["a"])]
)
def test_wrong_type(kind: FeatureType, values: list[Any]) -> None:
    """Values that are not of the type that a schema gives their column are refused."""
    with pytest.raises(BundleError, match=f"column x: holds values that are not {kind.value}"):
        rows_of([Feature("x", kind)], pd.DataFrame({"x": values}))


def test_widen() -> None:
    """Other rows widen bounds and nullability, and add no categories."""
    features = infer_features(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "x"]}))

    wider = widen(features, pd.DataFrame({"a": [0.5, None], "b": ["y", "x"]}))

    assert wider == (
        Feature("a", FeatureType.NUMERIC, nullable=True, low=0.5, high=2.0),
        Feature("b", FeatureType.CATEGORICAL, categories=("x",)),
    )
