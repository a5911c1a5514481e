"""Rows as DataFrames: each value in the dtype that its row alone would have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.serving.runtimes.base import Frames, Levels
from app.types import Feature, FeatureType, Row

INTEGER, NUMERIC, TEXT, FLAG = (
    Feature("i", FeatureType.INTEGER, nullable=True),
    Feature("x", FeatureType.NUMERIC, nullable=True),
    Feature("t", FeatureType.CATEGORICAL, nullable=True),
    Feature("b", FeatureType.BOOLEAN, nullable=True),
)


def divided(frames: Frames, rows: list[Row]) -> list[pd.DataFrame]:
    """The DataFrames of rows that go together, in order of their first rows."""
    groups = frames.groups(rows) or [list(range(len(rows)))]
    return [frames.frame([rows[place] for place in places]) for places in groups]


@pytest.mark.parametrize(
    ("feature", "dtype", "value"),
    [
        (INTEGER, "int64", 3),
        (INTEGER, "int8", -3),
        (INTEGER, "uint16", 40_000),
        (INTEGER, "Int32", 3),
        (INTEGER, "float64", 3),
        (INTEGER, "object", 3),
        (NUMERIC, "float32", 0.5),
        (NUMERIC, "Float64", 0.5),
        (NUMERIC, "int64", 5),
        (FLAG, "bool", True),
        (FLAG, "boolean", True),
        (FLAG, "object", True),
        (TEXT, "str", "a"),
        (TEXT, "string", "a"),
        (TEXT, "object", "a"),
        (TEXT, "category", "a"),
    ],
    ids=str,
)
def test_dtype_of_the_training_data(feature: Feature, dtype: str, value: Any) -> None:
    """A column has the dtype that was recorded for it, and equals what pandas makes of the value in that dtype."""
    levels = {"t": Levels(("b", "a"), False, "str")}
    [frame] = divided(Frames([feature], {feature.name: dtype}, levels), [(value,)])

    wanted: Any = pd.CategoricalDtype(["b", "a"]) if dtype == "category" else dtype
    pd.testing.assert_frame_equal(frame, pd.DataFrame({feature.name: pd.Series([value], dtype=wanted)}))


def test_number_sent_as_a_float() -> None:
    """A whole number that JSON's reader gives as a float stays an integer, also in a column of objects."""
    frames = Frames([INTEGER, Feature("o", FeatureType.INTEGER)], {"o": "object"}, {})

    [frame] = divided(frames, [(2.0, 7.0)])

    assert frame.dtypes.astype(str).tolist() == ["int64", "object"]
    assert frame.astype(str).iloc[0].tolist() == ["2", "7"]


def test_neighbours_do_not_widen_a_column() -> None:
    """Beside a fraction, a null and a number too large, a row keeps its integers; like rows share a DataFrame."""
    frames = Frames([INTEGER, NUMERIC], {"i": "int8"}, {})
    rows: list[Row] = [(1, 0.5), (2.5, 0.5), (3, None), (None, 1.0), (1000, 1.0), (4, 2.0), (1e300, 1.0)]

    groups = frames.groups(rows)

    assert groups == [[0, 2, 5], [1, 3, 6], [4]]
    assert [str(part.dtypes["i"]) for part in divided(frames, rows)] == ["int8", "float64", "int64"]
    assert frames.groups(rows[:1]) is None


def test_columns_without_integers_are_never_divided() -> None:
    """A model of plain numbers and text takes all rows together, and its rows are not looked at."""
    assert Frames([NUMERIC, TEXT], {}, {}).groups([(None, None), (1.5, "a")]) is None


def test_all_levels() -> None:
    """A row alone has all the categories in the order of the training data; one that is no level counts as missing."""
    frames = Frames([TEXT], {"t": "category"}, {"t": Levels(("web", "none", "shop"), True, "object")})

    [frame] = divided(frames, [("shop",), ("kiosk",), (None,)])

    assert frame["t"].cat.categories.tolist() == ["web", "none", "shop"]
    assert frame["t"].cat.ordered
    assert frame["t"].cat.codes.tolist() == [2, -1, -1]


def test_missing_text() -> None:
    """Missing text is NaN, pd.NA or None, as the training data had it."""
    features = [Feature(name, FeatureType.CATEGORICAL, nullable=True) for name in "abcd"]
    dtypes = {"b": "string", "c": "object", "d": "object[nan]"}

    [frame] = divided(Frames(features, dtypes, {}), [(None, None, None, None), ("x", "x", "x", "x")])

    a, b, c, d = frame.iloc[0]
    assert (np.isnan(a), b is pd.NA, c is None, np.isnan(d)) == (True, True, True, True)


VALUES = st.one_of(st.none(), st.integers(-300, 300), st.floats(-5, 5), st.sampled_from([2.0, 1e300, -(2.0**63)]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(VALUES, st.none() | st.booleans(), VALUES), min_size=1, max_size=12))
def test_a_row_is_given_the_same_in_any_company(rows: list[Row]) -> None:
    """Each row's DataFrame among others has the values and the dtypes of its DataFrame alone."""
    frames = Frames([INTEGER, FLAG, Feature("n", FeatureType.INTEGER)], {"n": "int16"}, {})

    groups = frames.groups(rows) or [list(range(len(rows)))]

    assert sorted(place for places in groups for place in places) == list(range(len(rows)))
    for places in groups:
        together = frames.frame([rows[place] for place in places])
        for position, place in enumerate(places):
            alone = frames.frame([rows[place]])
            pd.testing.assert_frame_equal(together[position : position + 1].reset_index(drop=True), alone)
