"""From a fitted model and its data to a bundle on disk, and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from app.bundling import build_bundle, infer_schema
from app.errors import BundleError
from app.monitoring.reference.reference import load_reference
from app.serving.bundle.reader import read_bundle
from app.types import FeatureType, Micros, Task
from tests.support.models import bundles
from tests.support.models.bundles import fit

NOW = Micros(1_700_000_000_000_000)


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (("no", "yes"), Task.BINARY),
        ((0, 1), Task.BINARY),
        ((False, True), Task.BINARY),
        (("a", "b", "c"), Task.MULTICLASS),
        ((0, 1, 2, 3), Task.MULTICLASS),
    ],
    ids=str,
)
def test_round_trip(tmp_path: Path, labels: Sequence[Any], task: Task) -> None:
    """Labels, answers, reference and baseline of a classifier come back from the disk as they were."""
    train, holdout = bundles.numbers(labels), bundles.numbers(labels, seed=8)
    model = fit(make_pipeline(StandardScaler(), LogisticRegression()), train)

    bundle = read_bundle(
        build_bundle(model, data=train, holdout=holdout, target="y", name="m", models=tmp_path, now=NOW)
    )

    inputs = holdout[["a", "b", "c"]]
    expected = model.predict(inputs).tolist()
    assert expected == [answer.prediction for answer in bundle.estimator.predict(inputs.to_numpy().tolist())]
    assert (task, tuple(labels)) == (bundle.schema.task, bundle.schema.classes)
    assert {type(label) for label in labels} == {type(label) for label in bundle.schema.classes}
    assert bundle.baseline["accuracy"] == pytest.approx(accuracy_score(holdout["y"], expected), abs=1e-12)
    reference = load_reference(bundle.folder, bundle.schema)
    assert reference.outcomes is not None
    assert holdout["y"].tolist() == [labels[code] for code in reference.outcomes]
    assert expected == [labels[code] for code in reference.predictions]
    assert (bundle.in_sample, bundle.created_at) == (False, "2023-11-14T22:13:20.000000Z")


def test_array_when_it_can(tmp_path: Path) -> None:
    """A model of numbers alone is served from arrays though fitted on a DataFrame; one of named columns is not."""
    train = bundles.numbers()
    plain = build_bundle(fit(LogisticRegression(), train), data=train, target="y", name="plain", models=tmp_path)
    frame = bundles.mixed()
    named = build_bundle(fit(bundles.pipeline(), frame), data=frame, target="y", name="named", models=tmp_path)

    assert (read_bundle(plain).input, read_bundle(named).input) == ("array", "dataframe")


def test_mixed(tmp_path: Path) -> None:
    """Columns of every type are served as scikit-learn answers them, and null is allowed where the model takes it."""
    frame = bundles.mixed()
    model = fit(bundles.pipeline(), frame)

    bundle = read_bundle(build_bundle(model, data=frame, target="y", name="m", models=tmp_path))

    age, income, channel, member = bundle.schema.features
    assert (age.type, age.nullable) == (FeatureType.INTEGER, False)
    assert (income.type, income.nullable) == (FeatureType.NUMERIC, True)
    assert channel.categories == ("phone", "shop", "web")
    assert FeatureType.BOOLEAN is member.type
    rows = [
        tuple(None if pd.isna(value) else value for value in row)
        for row in frame.drop(columns="y").itertuples(index=False)
    ]
    expected = model.predict_proba(frame.drop(columns="y"))
    assert np.allclose(expected, bundles.told(bundle.estimator.predict(rows)), rtol=1e-12)
    assert any(row[1] is None for row in bundle.golden_rows)


def test_pandas_categories(tmp_path: Path) -> None:
    """A model that insists on pandas categories gets them back after a round trip."""
    frame = bundles.mixed().astype({"channel": "category"})
    model = fit(HistGradientBoostingClassifier(max_iter=5), frame)

    bundle = read_bundle(build_bundle(model, data=frame, target="y", name="m", models=tmp_path))

    [answer] = bundle.estimator.predict([(40, None, "web", True)])
    one = pd.DataFrame({"age": [40], "income": [np.nan], "channel": pd.Categorical(["web"]), "member": [True]})
    assert model.predict(one).tolist() == [answer.prediction]


def test_regression(tmp_path: Path) -> None:
    """A regression comes back with its numbers and errors as baseline."""
    frame = bundles.numbers((1.0, 2.0, 3.0))
    model = fit(LinearRegression(), frame)

    bundle = read_bundle(build_bundle(model, data=frame, target="y", name="m", models=tmp_path))

    rows = frame[["a", "b", "c"]].to_numpy().tolist()
    assert np.allclose(
        model.predict(frame[["a", "b", "c"]]), [answer.prediction for answer in bundle.estimator.predict(rows)]
    )
    assert (bundle.schema.task, bundle.schema.classes) == (Task.REGRESSION, ())
    assert {"mae", "rmse", "r2"} <= bundle.baseline.keys()


def test_a_model_that_fails_on_mixed_rows_is_bundled(tmp_path: Path) -> None:
    """Where the dependence cannot be measured, the bundle is made without it."""
    frame = bundles.numbers()
    frame["b"] = frame["a"]
    model = make_pipeline(FunctionTransformer(bundles.insist_on_equal_columns), LogisticRegression()).fit(
        frame[["a", "b"]].to_numpy(), frame["y"]
    )

    folder = build_bundle(
        model,
        data=frame[["a", "b", "y"]],
        target="y",
        name="m",
        models=tmp_path,
        trusted_types=["tests.support.models.bundles.insist_on_equal_columns"],
    )

    assert json.loads((folder / "profile.json").read_bytes())["dependence"] == {}


def test_threshold_and_positive(tmp_path: Path) -> None:
    """A threshold decides the stored and the served answers alike, for the class that was named positive."""
    frame = bundles.numbers((0, 1))
    model = fit(LogisticRegression(), frame)

    folder = build_bundle(model, data=frame, target="y", name="m", models=tmp_path, positive="0", threshold=0.9)

    bundle = read_bundle(folder)
    assert (bundle.schema.positive, bundle.schema.threshold) == (0, 0.9)
    told = model.predict_proba(frame[["a", "b", "c"]])[:, 0]
    answers = bundle.estimator.predict(frame[["a", "b", "c"]].to_numpy().tolist())
    assert np.where(told >= 0.9, 0, 1).tolist() == [answer.prediction for answer in answers]


def test_edited_schema(tmp_path: Path) -> None:
    """An edited schema is taken as it is, in the model's order of features."""
    frame = bundles.mixed()
    model = fit(bundles.pipeline(), frame)
    features = [
        replace(feature, low=0.0, high=120.0) if feature.name == "age" else feature
        for feature in infer_schema(model, data=frame, target="y")
    ]

    folder = build_bundle(model, data=frame, target="y", name="m", models=tmp_path, features=features[::-1])

    assert tuple(features) == read_bundle(folder).schema.features


def test_existing_version(tmp_path: Path) -> None:
    """A version that is there is neither touched nor hidden, unless it is to be replaced."""
    frame = bundles.numbers()
    model = fit(LogisticRegression(), frame)
    folder = build_bundle(model, data=frame, target="y", name="m", models=tmp_path, now=NOW)
    before = read_bundle(folder).sha256

    with pytest.raises(BundleError, match="is there already"):
        build_bundle(model, data=frame, target="y", name="m", models=tmp_path)
    assert read_bundle(folder).sha256 == before
    build_bundle(model, data=frame, target="y", name="m", models=tmp_path, replace=True)

    assert read_bundle(folder).sha256 != before
    assert [folder] == list((tmp_path / "m").iterdir())


def test_same_inputs_same_bundle(tmp_path: Path) -> None:
    """The same model, data and time give the same answers, profile and schema, byte by byte."""
    frame = bundles.mixed()
    model = fit(bundles.pipeline(), frame)

    one, two = (build_bundle(model, data=frame, target="y", name="m", models=tmp_path / part, now=NOW) for part in "ab")

    assert (one / "profile.json").read_bytes() == (two / "profile.json").read_bytes()
    manifests = [yaml.safe_load((folder / "bundle.yaml").read_bytes()) for folder in (one, two)]
    assert manifests[0]["features"] == manifests[1]["features"]


def test_nothing_left_behind(tmp_path: Path) -> None:
    """A bundle that fails half-way leaves no folder that could be mistaken for one."""
    frame = bundles.numbers()

    with pytest.raises(BundleError, match="files"):
        build_bundle(
            fit(LogisticRegression(), frame),
            data=frame,
            target="y",
            name="m",
            models=tmp_path,
            attachments={"a b": b""},
        )

    assert list((tmp_path / "m").iterdir()) == []


def test_model_is_not_changed(tmp_path: Path) -> None:
    """The caller's model keeps its names and threads."""
    frame = bundles.numbers()
    model = fit(LogisticRegression(), frame)
    build_bundle(model, data=frame, target="y", name="m", models=tmp_path)

    assert model.feature_names_in_.tolist() == ["a", "b", "c"]


def test_joblib(tmp_path: Path) -> None:
    """A model that skops cannot store is bundled as joblib when asked, and then needs permission to load."""
    frame = bundles.numbers()
    model = fit(make_pipeline(FunctionTransformer(bundles.absolute), LogisticRegression()), frame)
    with pytest.raises(BundleError, match=r"names code that would run: .*bundles\.absolute"):
        build_bundle(model, data=frame, target="y", name="m", models=tmp_path)

    folder = build_bundle(model, data=frame, target="y", name="m", models=tmp_path, format="joblib")

    with pytest.raises(BundleError, match="allow_pickle"):
        read_bundle(folder)
    assert read_bundle(folder, allow_pickle=True).format == "joblib"


def test_names_by_numbers(tmp_path: Path) -> None:
    """Columns named by numbers, as of a table without a header, are features of that name as text."""
    frame = bundles.numbers().rename(columns={"a": 0, "b": 1, "c": 2})
    model = LogisticRegression().fit(frame[[0, 1, 2]], frame["y"])

    folder = build_bundle(model, data=frame, holdout=frame[:90], in_sample=True, target="y", name="m", models=tmp_path)

    assert read_bundle(folder).schema.feature_names == ("0", "1", "2")
    assert [feature.name for feature in infer_schema(model, data=frame, target="y")] == ["0", "1", "2"]


def test_a_step_that_mixes_rows(tmp_path: Path) -> None:
    """A step that computes from the batch is refused by name, and taken with single rows, which the bundle keeps."""
    frame = bundles.numbers()
    model = fit(make_pipeline(FunctionTransformer(bundles.minus_mean), LogisticRegression()), frame)
    trusted = ["tests.support.models.bundles.minus_mean"]
    with pytest.raises(BundleError, match="step functiontransformer computes from all rows of a batch"):
        build_bundle(model, data=frame, target="y", name="m", models=tmp_path, trusted_types=trusted)

    folder = build_bundle(
        model, data=frame, target="y", name="m", models=tmp_path, trusted_types=trusted, single_rows=True
    )

    estimator = read_bundle(folder, trusted_types=trusted).estimator
    rows = frame[["a", "b", "c"]].to_numpy().tolist()
    assert estimator.predict(rows[:9]) == [estimator.predict([row])[0] for row in rows[:9]]


def test_strict_categories(tmp_path: Path) -> None:
    """The values that a strict encoder knows are written into the schema, and the ONNX graph may serve all the same."""
    frame = bundles.mixed()[["age", "channel", "y"]]
    steps = make_column_transformer((OneHotEncoder(), ["channel"]), remainder="passthrough")
    model = fit(make_pipeline(steps, LogisticRegression()), frame)

    bundle = read_bundle(build_bundle(model, data=frame, target="y", name="m", models=tmp_path))

    assert [feature.allowed for feature in bundle.schema.features] == [(), ("phone", "shop", "web")]
    assert bundle.runtime == "onnx"
