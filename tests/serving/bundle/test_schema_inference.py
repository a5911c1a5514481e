"""The schema is read off the data as a person would read it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder

from app.errors import BundleError
from app.serving.bundle.schema_inference import MAX_CATEGORIES, infer_features, known_columns, rows_of, widen
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


def encoded() -> Any:
    """An unfitted classifier that encodes, scales, counts words, and encodes numbers."""
    imputed = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    parts = [
        ("text", imputed, ["zip"]),
        ("scale", make_pipeline(SimpleImputer(), StandardScaler()), ["size"]),
        ("code", OneHotEncoder(), ["code"]),
        ("words", TfidfVectorizer(), "note"),
    ]
    return make_pipeline(ColumnTransformer(parts), LogisticRegression())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        lambda model: GridSearchCV(model, {}, cv=2),
        lambda model: CalibratedClassifierCV(model, cv=2),
        lambda model: VotingClassifier([("one", model)]),
    ],
    ids=["pipeline", "search", "calibration", "vote"],
)
def test_a_model_knows_its_columns(wrap: Any) -> None:
    """What it encodes as text and what it takes as numbers is seen inside a fitted model; the rest is left open."""
    rows = {"zip": ["01067", "NA"] * 20, "size": [1.5, 2.5] * 20, "code": [1, 2] * 20, "note": ["a word", "two"] * 20}
    known = known_columns(wrap(encoded()).fit(pd.DataFrame(rows), ["no", "yes", "yes", "no"] * 10))

    assert known.names == ("zip", "size", "code", "note")
    assert known.classes == ("no", "yes")
    assert known.features == {
        "zip": Feature("zip", FeatureType.CATEGORICAL, nullable=True, categories=("01067", "NA")),
        "size": Feature("size", FeatureType.NUMERIC, nullable=True),
    }


def test_models_that_know_less() -> None:
    """A function takes anything; categories of a dtype are not the boosting's numbers; an array has no names."""
    frame = pd.DataFrame({"zip": pd.Categorical(["01067", "NA"] * 20), "size": [1.5, 2.5] * 20})
    truth = np.tile([0.0, 1.0, 1.0, 0.0], 10)
    function = make_pipeline(FunctionTransformer(), LogisticRegression()).fit(frame[["size"]], truth)
    boosting = HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype").fit(frame, truth)
    target = TransformedTargetRegressor(make_pipeline(TargetEncoder(cv=2), Ridge())).fit(frame[["zip"]], truth)
    nameless = known_columns(Ridge().fit(frame[["size"]].to_numpy(), truth))

    assert known_columns(function).features == {}
    assert known_columns(boosting).features.keys() == {"zip"}
    assert known_columns(target).features["zip"].categories == ("01067", "NA")
    assert (nameless.names, nameless.features, nameless.classes) == (None, {}, ())
