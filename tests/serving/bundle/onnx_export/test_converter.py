"""A scikit-learn model is served as an ONNX graph only where both answer every row alike; else it says why not."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from app.bundling import build_bundle
from app.errors import BundleError
from app.serving.bundle.manifest import MANIFEST, OnnxEntry, parse_manifest
from app.serving.bundle.reader import Bundle, read_bundle
from app.types import Row
from tests.support.models import bundles

CLASSIFIERS = [
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0)),
    DecisionTreeClassifier(max_depth=4),
    RandomForestClassifier(20, random_state=0, n_jobs=2),
    ExtraTreesClassifier(9, random_state=0),
    GradientBoostingClassifier(n_estimators=9),
    HistGradientBoostingClassifier(max_iter=9),
    CalibratedClassifierCV(RandomForestClassifier(4, random_state=0), cv=2),
]
REGRESSIONS = [
    LinearRegression(),
    RandomForestRegressor(9, random_state=0),
    GradientBoostingRegressor(n_estimators=9),
    HistGradientBoostingRegressor(max_iter=9),
    HistGradientBoostingRegressor(max_iter=9, loss="poisson"),
]


def bundled(model: Any, frame: pd.DataFrame, models: Path, **options: Any) -> Path:
    """A bundle of the model fitted on the frame."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = clone(model).fit(frame.drop(columns="y"), frame["y"])
    return build_bundle(fitted, data=frame, target="y", name="m", models=models, **options)


def outcome(folder: Path) -> OnnxEntry:
    """What the manifest says of the graph."""
    entry = parse_manifest((folder / MANIFEST).read_bytes(), "bundle.yaml").onnx
    assert entry is not None
    return entry


def both(folder: Path) -> tuple[Bundle, Bundle]:
    """A bundle as ONNX and as scikit-learn serve it."""
    return read_bundle(folder, runtime="onnx"), read_bundle(folder, runtime="sklearn")


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The frame's features as requests carry them."""
    features = frame.drop(columns="y").astype(object)
    return list(features.where(features.notna(), None).itertuples(index=False, name=None))


def assert_alike(folder: Path, rows: list[Row]) -> None:
    """ONNX and scikit-learn give these rows the same labels, and the same probabilities to a trillionth."""
    graph, model = both(folder)
    found, expected = graph.estimator.predict(rows), model.estimator.predict(rows)
    assert [answer.prediction for answer in expected] == [answer.prediction for answer in found]
    assert np.abs(bundles.told(found) - bundles.told(expected)).max() < 1e-12


LABELS: list[tuple[Any, ...]] = [("no", "yes"), (3, 1, 2)]
MORE_LABELS: list[tuple[Any, ...]] = [(False, True), (0.0, 1.0)]
"""Their types matter to the output of the graph alone, so that one converter of skl2onnx and one of ours have them."""


@pytest.mark.parametrize(
    ("model", "labels"),
    [*product(CLASSIFIERS, LABELS), *product([CLASSIFIERS[0], CLASSIFIERS[2]], MORE_LABELS)],
    ids=lambda value: str(value) if isinstance(value, tuple) else type(value).__name__,
)
def test_classifiers(model: Any, labels: tuple[Any, ...], tmp_path: Path) -> None:
    """Two classes and more, of every type, are answered as by scikit-learn, far beyond the tolerance."""
    frame = bundles.numbers(labels)
    folder = bundled(model, frame, tmp_path)

    assert outcome(folder).reason is None
    assert_alike(folder, rows_of(bundles.numbers(labels, seed=8)))
    answers = read_bundle(folder).estimator.predict(rows_of(frame))
    assert {type(label) for label in labels} == {type(answer.prediction) for answer in answers}


@pytest.mark.parametrize("model", REGRESSIONS, ids=lambda model: type(model).__name__)
def test_regressions(model: Any, tmp_path: Path) -> None:
    """Numbers are those of scikit-learn."""
    folder = bundled(model, bundles.numbers((1.0, 2.0, 3.0)), tmp_path)

    graph, reference = both(folder)
    rows = rows_of(bundles.numbers((1.0, 2.0, 3.0), seed=8))
    expected = [answer.prediction for answer in reference.estimator.predict(rows)]
    assert pytest.approx(expected, rel=1e-12) == [answer.prediction for answer in graph.estimator.predict(rows)]
    assert {float} == {type(answer.prediction) for answer in graph.estimator.predict(rows)}


@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda model: type(model).__name__)
def test_company_changes_nothing(model: Any, tmp_path: Path) -> None:
    """A row has the same label alone and in any company, and the same probabilities to the last rounding."""
    frame = bundles.numbers(("a", "b", "c"))
    estimator = read_bundle(bundled(model, frame, tmp_path), runtime="onnx").estimator
    rows = rows_of(frame)[:61]

    together = estimator.predict(rows)

    for size in (1, 3, 13):
        parts = [answer for at in range(0, 61, size) for answer in estimator.predict(rows[at : at + size])]
        assert [answer.prediction for answer in together] == [answer.prediction for answer in parts]
        assert np.abs(bundles.told(together) - bundles.told(parts)).max() < 1e-15


def with_gaps() -> pd.DataFrame:
    """Columns of every type, with missing numbers and missing text."""
    frame = bundles.mixed()
    frame.loc[::11, "channel"] = None
    return frame


def over_columns(encoder: Any, last: Any) -> Any:
    """A pipeline that encodes the text and passes the numbers on."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = make_column_transformer((encoder, ["channel"]), (numbers, ["income", "age"]), remainder="passthrough")
    return make_pipeline(columns, last)


FILLED = make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=np.nan), OneHotEncoder())
MIXED = {
    "one-hot": over_columns(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
    "dropped": over_columns(OneHotEncoder(handle_unknown="ignore", drop="first"), LogisticRegression()),
    "rare": over_columns(
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=80, sparse_output=False), LogisticRegression()
    ),
    "refusing": over_columns(OneHotEncoder(), LogisticRegression()),
    "ordinal": over_columns(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), RandomForestClassifier(9, random_state=0)
    ),
    "boosting": make_pipeline(
        make_column_transformer(
            (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["channel"]), remainder="passthrough"
        ),
        HistGradientBoostingClassifier(categorical_features=[0], max_iter=9),
    ),
}


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("model", MIXED.values(), ids=MIXED.keys())
def test_mixed_columns(model: Any, tmp_path: Path) -> None:
    """Text, whole numbers, fractions and booleans, missing or never seen, are answered as by scikit-learn."""
    frame = with_gaps()
    folder = bundled(model, frame, tmp_path)

    assert outcome(folder).reason is None
    assert_alike(folder, rows_of(frame))
    if model is not MIXED["refusing"]:
        assert_alike(folder, [(40, None, "fax", True), (40.5, 1e9, None, False), (-3, 0.0, "nan", True)])


def test_filled_text(tmp_path: Path) -> None:
    """Missing text is filled in as by scikit-learn."""
    frame = with_gaps()
    frame["channel"] = frame["channel"].astype(object).where(frame["channel"].notna(), np.nan)
    folder = bundled(over_columns(FILLED, LogisticRegression()), frame, tmp_path)

    assert outcome(folder).reason is None
    assert_alike(folder, rows_of(frame))


@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_pandas_categories(tmp_path: Path) -> None:
    """A HistGradientBoosting that takes pandas categories and 32-bit floats as they are has a graph that does, too."""
    frame = with_gaps().astype({"channel": "category", "income": "float32"})
    folder = bundled(HistGradientBoostingClassifier(max_iter=9), frame, tmp_path)

    assert outcome(folder).reason is None
    assert_alike(folder, [*rows_of(frame), (40, None, "fax", True), (40, None, None, False)])


def test_missing_numbers_in_trees(tmp_path: Path) -> None:
    """A missing number goes the way in each tree that scikit-learn sends it."""
    frame = bundles.numbers()
    frame.loc[frame["a"] > 0.7, "a"] = np.nan
    folder = bundled(RandomForestClassifier(9, random_state=0), frame, tmp_path)

    assert read_bundle(folder).schema.features[0].nullable
    assert_alike(folder, rows_of(frame))


def test_many_categories(tmp_path: Path) -> None:
    """Sets of categories in a tree are kept whole, whatever their number."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"shop": rng.integers(0, 200, 3000).astype(str), "price": rng.normal(size=3000)})
    frame["y"] = np.where((frame["shop"].astype(int) % 7 < 3) ^ (frame["price"] > 1), "good", "bad")
    model = HistGradientBoostingClassifier(max_iter=9, categorical_features=["shop"])
    folder = bundled(model, frame, tmp_path)

    assert_alike(folder, rows_of(frame))


def test_names(tmp_path: Path) -> None:
    """A feature may have any name, that of an output or of a variable of the graph too."""
    frame, names = with_gaps(), ["mean radius", "größe", "label", "probabilities", "features", "variable", "a.b/c"]
    for place, name in enumerate([*names, "channel "]):
        frame.insert(place, name, frame["income"] + frame["age"] * place)
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["channel"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), [*names, "channel ", "income"]),
    )
    folder = bundled(make_pipeline(columns, LogisticRegression()), frame, tmp_path)

    assert outcome(folder).reason is None
    assert_alike(folder, rows_of(frame))


def test_threshold(tmp_path: Path) -> None:
    """The schema's threshold decides in both runtimes."""
    folder = bundled(LogisticRegression(), bundles.numbers(), tmp_path, threshold=0.9)

    assert_alike(folder, rows_of(bundles.numbers(seed=8)))


def test_what_is_recorded(tmp_path: Path) -> None:
    """The manifest names the file, pins it, and says how many rows were answered alike and how far they differ."""
    folder = bundled(LogisticRegression(), bundles.numbers(), tmp_path)

    entry = outcome(folder)
    assert entry.file == "model.onnx"
    assert entry.rows is not None
    assert entry.rows > bundles.ROWS
    assert entry.difference is not None
    assert entry.difference < 1e-12
    assert "model.onnx" in parse_manifest((folder / MANIFEST).read_bytes(), "").files


@pytest.mark.parametrize(
    ("model", "frame", "reason"),
    [
        (RidgeClassifier(), bundles.numbers(), "it cannot be written in ONNX: "),
        (
            make_pipeline(PolynomialFeatures(), AdaBoostClassifier()),
            bundles.numbers(),
            "it cannot be written in ONNX: ",
        ),
        (LinearDiscriminantAnalysis(), bundles.numbers(), "probabilities differ by up to"),
        (
            KNeighborsClassifier(),
            pd.concat([bundles.numbers(seed=seed) for seed in range(10)]),
            "it takes ",
        ),
    ],
    ids=["impossible", "other types", "other probabilities", "slower"],
)
def test_refused_graph(model: Any, frame: pd.DataFrame, reason: str, tmp_path: Path) -> None:
    """A graph that cannot be written, answers otherwise or is slower is not kept; scikit-learn serves, and says why."""
    folder = bundled(model, frame, tmp_path)

    found = outcome(folder).reason
    assert found is not None
    assert found.startswith(reason)
    assert not (folder / "model.onnx").exists()
    assert read_bundle(folder).runtime == "sklearn"
    with pytest.raises(BundleError, match="has no ONNX graph") as caught:
        read_bundle(folder, runtime="onnx")
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_skl2onnx_is_left_as_it_was(tmp_path: Path) -> None:
    """Our converters serve our conversions alone: what others convert in this process is not changed."""
    from skl2onnx.common._registration import get_converter

    before = get_converter("SklearnHistGradientBoostingClassifier")
    bundled(HistGradientBoostingClassifier(max_iter=3), bundles.numbers(), tmp_path)

    assert get_converter("SklearnHistGradientBoostingClassifier") is before
