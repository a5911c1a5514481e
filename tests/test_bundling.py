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
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from app.bundling import REFERENCE_ROWS, build_bundle, check_unseen, infer_schema
from app.errors import BundleError
from app.monitoring.reference.reference import load_reference
from app.serving.bundle.reader import read_bundle, read_manifest
from app.types import Feature, FeatureType, Micros, Task
from tests.support.models import bundles

NOW = Micros(1_700_000_000_000_000)


def fit(model: Any, frame: pd.DataFrame, *, named: bool = True) -> Any:
    """The model fitted on all columns but ``y``."""
    inputs = frame.drop(columns="y")
    return model.fit(inputs if named else inputs.to_numpy(), frame["y"])


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


def test_in_sample(tmp_path: Path) -> None:
    """Without a holdout, the reference is the training data, and says so."""
    frame = bundles.numbers()
    folder = build_bundle(fit(LogisticRegression(), frame), data=frame, target="y", name="m", models=tmp_path)

    assert read_bundle(folder).in_sample
    assert json.loads((folder / "profile.json").read_bytes())["in_sample"] is True


@pytest.mark.parametrize("part", [slice(None), slice(0, 100), slice(190, None)], ids=["file", "part", "overlap"])
def test_holdout_of_training_rows_is_refused(tmp_path: Path, part: slice) -> None:
    """Rows that the model was fitted on are no holdout, all or some of them; told so, the reference is in-sample."""
    train = bundles.numbers()
    holdout = pd.concat([train[part], bundles.numbers(seed=8)[: 0 if part == slice(None) else 100]])
    given: dict[str, Any] = {"data": train, "holdout": holdout, "target": "y", "name": "m", "models": tmp_path}
    model = fit(LogisticRegression(), train)

    with pytest.raises(BundleError, match=r"rows of the holdout \(\d+%\) are rows of the training data.*--in-sample"):
        build_bundle(model, **given)
    assert not (tmp_path / "m").exists()
    assert read_bundle(build_bundle(model, **given, in_sample=True)).in_sample


def test_rows_that_are_equal_by_chance_are_a_holdout() -> None:
    """Where few distinct rows are possible, a holdout shares most of them with the training data, and may."""
    rng = np.random.default_rng(3)
    train, holdout = (
        pd.DataFrame(
            {"shop": rng.choice(list("abcd"), rows), "size": rng.integers(0, 4, rows), "y": rng.integers(0, 2, rows)}
        )
        for rows in (900, 300)
    )
    check_unseen(train, holdout)

    with pytest.raises(BundleError, match=r"900 of 900 rows"):
        check_unseen(train, train.sample(frac=1, random_state=1).astype({"size": float}))


def test_reference_is_qualified(tmp_path: Path) -> None:
    """The profile keeps what the answer depends on, and how much each feature varies between blocks in time."""
    train = bundles.numbers()
    holdout = pd.concat([bundles.numbers(seed=seed) for seed in range(5)], ignore_index=True)
    holdout["at"] = 1_767_571_200 + np.arange(len(holdout))
    holdout["c"] += np.repeat([0.0, 2.0, -2.0, 1.0], len(holdout) // 4)
    model = fit(LogisticRegression(), train)

    folder = build_bundle(model, data=train, holdout=holdout, target="y", time="at", name="m", models=tmp_path)

    reference = load_reference(folder, read_bundle(folder).schema)
    assert reference.dependence["a"] > reference.dependence["b"] > reference.dependence["c"]
    a, _, c, prediction, probability = reference.inflations(1000)
    assert c > 10 * a
    assert min(prediction, probability) >= 1


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


def test_large_holdout_in_time_order(tmp_path: Path) -> None:
    """Of a large holdout an even sample is kept, in the order of its times."""
    train = bundles.numbers()
    holdout = pd.concat([bundles.numbers(seed=8)] * 50, ignore_index=True)
    holdout["at"] = pd.date_range("2026-01-01", periods=len(holdout), freq="s", tz="UTC").astype(str)
    model = fit(LogisticRegression(), train)

    folder = build_bundle(
        model,
        data=train,
        holdout=holdout.sample(frac=1, random_state=1),
        target="y",
        time="at",
        name="m",
        models=tmp_path,
    )

    times = load_reference(folder, read_bundle(folder).schema).times
    assert times is not None
    assert len(times) == REFERENCE_ROWS
    assert (np.diff(times) > 0).all()
    assert pd.Timestamp(times[0], unit="us") == pd.Timestamp("2026-01-01")


def test_the_size_of_the_reference_is_asked_for(tmp_path: Path) -> None:
    """Of a large holdout as many rows are kept as asked for, with each outcome's share, and the baseline is of all."""
    train, holdout = bundles.numbers(), pd.concat([bundles.numbers(seed=8)] * 5, ignore_index=True)
    model = fit(LogisticRegression(), train)

    folder = build_bundle(model, data=train, holdout=holdout, target="y", name="m", models=tmp_path, reference_rows=120)

    bundle = read_bundle(folder)
    reference = load_reference(folder, bundle.schema)
    expected = accuracy_score(holdout["y"], model.predict(holdout[["a", "b", "c"]]))
    assert reference.rows == 120
    assert reference.judged is not None
    assert reference.judged.rows == len(holdout)
    assert bundle.baseline["accuracy"] == pytest.approx(expected, abs=1e-12)


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


def bad_frame(**columns: Any) -> pd.DataFrame:
    """The numbers with some columns replaced."""
    return bundles.numbers().assign(**columns)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"name": "../m"}, "model name '../m'"),
        ({"version": "a/b"}, "version 'a/b'"),
        ({"target": "z"}, "the data has no column 'z'; it has 'a', 'b', 'c', 'y'"),
        ({"data": bundles.numbers().drop(columns="b")}, "the data lacks columns that the model takes: 'b'"),
        ({"data": bundles.numbers()[:0]}, "the data has no rows"),
        ({"holdout": bundles.numbers().drop(columns="y")}, "the data has no column 'y'; it has 'a', 'b', 'c'"),
        ({"holdout": bad_frame(y="maybe")}, "column y: holds maybe, which the model cannot answer"),
        ({"holdout": bad_frame(a=np.nan)}, "the model fails on the data: ValueError: Input X contains NaN."),
        ({"holdout": bad_frame(a=np.inf)}, "column a: holds infinite numbers"),
        ({"holdout": bad_frame(a="text")}, "column a: holds values that are no numbers"),
        ({"positive": "maybe"}, "the model has no class maybe; it has no, yes"),
        ({"time": "at"}, "the data has no column 'at'"),
        ({"model": KMeans(2)}, "a KMeans is neither a scikit-learn classifier nor a regressor"),
        ({"model": LogisticRegression()}, "the model is not fitted"),
        (
            {"features": [Feature("a", FeatureType.NUMERIC)]},
            "the schema's features are not the model's; it takes a, b, c",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    """Whatever is wrong with model, data or names is said in one line, and nothing is written."""
    frame = bundles.numbers()
    given: dict[str, Any] = {
        "model": fit(LogisticRegression(), frame),
        "data": frame,
        "target": "y",
        "name": "m",
        "models": tmp_path,
    }
    given |= changes

    with pytest.raises(BundleError) as caught:
        build_bundle(given.pop("model"), **given)

    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("bundle.yaml"))


def warnings_of(folder: Path) -> tuple[str, ...]:
    """What the bundle's manifest warns of."""
    return read_manifest(folder)[0].warnings


def test_names_by_numbers(tmp_path: Path) -> None:
    """Columns named by numbers, as of a table without a header, are features of that name as text."""
    frame = bundles.numbers().rename(columns={"a": 0, "b": 1, "c": 2})
    model = LogisticRegression().fit(frame[[0, 1, 2]], frame["y"])

    folder = build_bundle(model, data=frame, holdout=frame[:90], in_sample=True, target="y", name="m", models=tmp_path)

    assert read_bundle(folder).schema.feature_names == ("0", "1", "2")
    assert [feature.name for feature in infer_schema(model, data=frame, target="y")] == ["0", "1", "2"]


def test_a_question_as_a_name(tmp_path: Path) -> None:
    """A survey's question is a name; one of more than 1,000 characters is refused with the limit."""
    question = "How satisfied were you with the way in which our staff handled your request? " * 10
    for name, fits in ((question, True), (question * 2, False)):
        frame = bundles.numbers().rename(columns={"a": name})
        model = fit(LogisticRegression(), frame)
        if fits:
            folder = build_bundle(model, data=frame, target="y", name="m", models=tmp_path)
            assert read_bundle(folder).schema.feature_names[0] == name
        else:
            with pytest.raises(BundleError, match="its name has 1540 characters, and at most 1000 are taken"):
                build_bundle(model, data=frame, target="y", name="n", models=tmp_path)


@pytest.mark.parametrize(("name", "line"), [("", "column ''"), ("a\x00b", "no request can carry this name")])
def test_names_that_no_request_carries(tmp_path: Path, name: str, line: str) -> None:
    """An empty name, or one with a character that no database takes, is refused."""
    frame = bundles.numbers().rename(columns={"a": name})

    with pytest.raises(BundleError, match=line):
        build_bundle(fit(LogisticRegression(), frame), data=frame, target="y", name="m", models=tmp_path)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    """Two columns of one name are refused by that name."""
    frame = bundles.numbers()
    model = fit(LogisticRegression(), frame)
    twice = pd.concat([frame, frame[["b"]]], axis=1)

    with pytest.raises(BundleError, match="two columns of one name: b"):
        build_bundle(model, data=twice, target="y", name="m", models=tmp_path)


def test_target_among_the_features(tmp_path: Path) -> None:
    """A model that takes the target as a feature is refused; a feature that tells it is warned of."""
    frame = bundles.numbers((0, 1))
    model = LogisticRegression().fit(frame, frame["y"])
    with pytest.raises(BundleError, match="takes the target y as a feature"):
        build_bundle(model, data=frame, target="y", name="m", models=tmp_path)

    told = frame.assign(decided=np.where(frame["y"] == 1, 3.0, 7.0))
    folder = build_bundle(fit(LogisticRegression(), told), data=told, target="y", name="m", models=tmp_path)

    assert warnings_of(folder) == (
        "feature decided tells the target in all of 240 rows; is it known before the truth?",
    )


@pytest.mark.parametrize("named", [True, False])
def test_columns_without_names(tmp_path: Path, named: bool) -> None:
    """A model without names for its columns takes them in the file's order, which is said with the order."""
    frame = bundles.numbers()

    folder = build_bundle(
        fit(LogisticRegression(), frame, named=named), data=frame, target="y", name="m", models=tmp_path
    )

    line = "the model has no names for its 3 columns: they are taken in the order of the file (a, b, c)"
    assert warnings_of(folder) == (() if named else (line,))


def test_columns_in_another_order(tmp_path: Path) -> None:
    """Where another order of the columns makes the model worthless, the figure is told."""
    frame = bundles.numbers()
    model = fit(LogisticRegression(), frame, named=False)

    turned = build_bundle(model, data=frame[["c", "b", "a", "y"]], target="y", name="m", models=tmp_path)
    chance = frame.assign(y=np.random.default_rng(0).permutation(frame["y"]))
    worthless = build_bundle(model, data=frame, holdout=chance, in_sample=True, target="y", name="n", models=tmp_path)

    assert "the order of the file (c, b, a)" in warnings_of(turned)[0]
    assert warnings_of(worthless)[1].startswith("the model is no better than its most frequent class: accuracy 0.")
    assert "has 0.500 on 240 rows" in warnings_of(worthless)[1]


def test_regression_no_better_than_the_mean(tmp_path: Path) -> None:
    """A regression whose errors are as large as those of the mean is warned of, with its R2."""
    frame = bundles.numbers((1.0, 2.0, 3.0))
    model = fit(LinearRegression(), frame)

    folder = build_bundle(
        model,
        data=frame,
        holdout=frame.assign(y=frame["y"][::-1].to_numpy()),
        in_sample=True,
        target="y",
        name="m",
        models=tmp_path,
    )

    assert warnings_of(folder)[0].startswith("the model is no better than the mean of the truth: R2 -")


def test_rare_positives_are_no_doubt(tmp_path: Path) -> None:
    """A model that ranks rare positives well is not called worthless, though it never predicts them."""
    frame = bundles.numbers()
    frame["y"] = np.where(frame["a"] + np.random.default_rng(0).normal(size=len(frame)) > 2.4, "yes", "no")
    model = fit(LogisticRegression(C=0.01), frame)

    folder = build_bundle(model, data=frame, target="y", name="m", models=tmp_path)

    assert set(model.predict(frame[["a", "b", "c"]])) == {"no"}
    assert warnings_of(folder) == ()


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
