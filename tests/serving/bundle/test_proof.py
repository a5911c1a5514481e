"""A model is bundled as its maker asks it, and answers each row alike in any company."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from app.bundling import build_bundle
from app.errors import BundleError
from app.serving.bundle.reader import Bundle, read_bundle, read_manifest
from tests.support.models import bundles, zoo

TRUSTED = [f"{zoo.NAME}.{step}" for step in zoo.TRUSTED]
SAMPLE = 15
"""Each so-manieth pipeline of the zoo is proved in the tests; ``python -m tests.support.models.zoo`` proves all."""


def made(model: Any, frame: pd.DataFrame, folder: Path, **options: Any) -> Bundle:
    """A fitted model as a bundle that is loaded again."""
    built = build_bundle(model, data=frame, target="y", name="m", models=folder, trusted_types=TRUSTED, **options)
    return read_bundle(built, trusted_types=TRUSTED, runtime="sklearn")


@pytest.mark.fault
def test_zoo(tmp_path: Path) -> None:
    """A pipeline answers a row alone, in pairs and in shuffled batches alike, and as scikit-learn itself does."""
    found = {
        f"{pipeline.name} on {runtime}": differences
        for pipeline in zoo.pipelines(SAMPLE)
        for made in [zoo.bundled(pipeline, tmp_path)]
        for runtime in ("sklearn", "auto")
        if (differences := zoo.differences(pipeline, made, runtime))
    }

    assert found == {}


def test_levels_that_no_row_shows(tmp_path: Path) -> None:
    """Codes of pandas categories are those of the training data, also where a level stands in no row of the holdout."""
    frame = bundles.mixed()[["channel", "age", "y"]]
    levels = pd.CategoricalDtype(["none", "web", "phone", "shop"])
    frame["channel"] = frame["channel"].astype(levels)
    steps = make_column_transformer((FunctionTransformer(zoo.as_codes), ["channel"]), remainder="passthrough")
    model = make_pipeline(steps, DecisionTreeClassifier(max_depth=6)).fit(frame[["channel", "age"]], frame["y"])
    holdout = frame[frame["channel"] == "web"].astype({"channel": str})

    bundle = made(model, frame, tmp_path, holdout=holdout, in_sample=True)

    for channel, age in itertools.product(["web", "phone", "shop"], [20, 40, 70]):
        row = pd.DataFrame({"channel": pd.Categorical([channel], dtype=levels), "age": [age]})
        [answer] = bundle.estimator.predict([(channel, age)])
        assert answer.probabilities == tuple(model.predict_proba(row)[0].tolist())
    assert read_manifest(bundle.folder)[0].levels["channel"].values == ("none", "web", "phone", "shop")


def test_integers_beside_gaps_of_the_holdout(tmp_path: Path) -> None:
    """Integers that a file with gaps shows as floats are served as the integers that the model was fitted on."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"store": rng.integers(1, 6, 300), "x": rng.normal(size=300)})
    frame["y"] = np.where(frame["store"].isin([2, 4]), "yes", "no")
    by_store = make_pipeline(FunctionTransformer(zoo.as_text), OneHotEncoder(handle_unknown="ignore"))
    model = make_pipeline(make_column_transformer((by_store, ["store"]), remainder="passthrough"), LogisticRegression())
    model.fit(frame[["store", "x"]], frame["y"])
    holdout = frame.assign(store=frame["store"].astype(float).where(frame.index % 7 > 0))

    bundle = made(model, frame, tmp_path, holdout=holdout, in_sample=True)

    alone = bundle.estimator.predict([(2, 0.1)])[0]
    assert alone.prediction == "yes"
    for neighbour in ((3, 0.5), (3.5, 0.5), (None, 0.5), (2.0, 1.0)):
        assert bundle.estimator.predict([neighbour, (2, 0.1)])[1] == alone
    assert bundle.schema.features[0].nullable


@pytest.mark.parametrize("model", [LinearRegression(), KNeighborsRegressor()], ids=lambda model: type(model).__name__)
def test_target_in_a_column_of_its_own(tmp_path: Path, model: Any) -> None:
    """A model that was fitted on a target of shape (n, 1) answers one number a row."""
    frame = bundles.numbers((1.0, 2.0, 3.0))
    model.fit(frame[["a", "b", "c"]], frame[["y"]])

    bundle = made(model, frame, tmp_path)

    answers = bundle.estimator.predict(frame[["a", "b", "c"]].to_numpy().tolist())
    assert pytest.approx(model.predict(frame[["a", "b", "c"]]).ravel()) == [answer.prediction for answer in answers]


def test_one_target_of_a_model_of_several(tmp_path: Path) -> None:
    """A model of several targets that was fitted on one gives its class and probabilities."""
    frame = bundles.numbers()
    model = MultiOutputClassifier(LogisticRegression()).fit(frame[["a", "b", "c"]], frame[["y"]])

    bundle = made(model, frame, tmp_path)

    expected = model.predict_proba(frame[["a", "b", "c"]])[0]
    assert np.array_equal(expected, bundles.told(bundle.estimator.predict(frame[["a", "b", "c"]].to_numpy().tolist())))


def notes(seed: int = 0) -> pd.DataFrame:
    """A number, a note of which no two are alike, and a target that depends on both."""
    rng = np.random.default_rng(seed)
    words = np.array(["late", "lost", "broken", "great", "fine", "thanks"])
    frame = pd.DataFrame({"a": rng.normal(size=200), "note": [" ".join(rng.choice(words, 12)) for _ in range(200)]})
    return frame.assign(y=np.where(frame["note"].str.count("great") + frame["a"] > 2, "good", "bad"))


def test_free_text(tmp_path: Path) -> None:
    """A model with a column of free text is bundled, though each text of the holdout is new."""
    steps = make_column_transformer((TfidfVectorizer(), "note"), remainder="passthrough")
    model = make_pipeline(steps, LogisticRegression()).fit(notes()[["a", "note"]], notes()["y"])

    bundle = made(model, notes(), tmp_path, holdout=notes(1))

    manifest, _ = read_manifest(bundle.folder)
    assert manifest.proof is not None
    assert (manifest.proof.source, manifest.proof.rows) == ("the training data", 20)
    assert len(bundle.golden_rows) == 20
    rows = list(zip(notes(1)["a"], notes(1)["note"], strict=True))
    assert model.predict(notes(1)[["a", "note"]]).tolist() == [
        each.prediction for each in bundle.estimator.predict(rows)
    ]


@pytest.mark.parametrize("step", [TfidfVectorizer(), HashingVectorizer()], ids=lambda step: type(step).__name__)
def test_free_text_alone(tmp_path: Path, step: Any) -> None:
    """A model of one column of text, fitted on it as a series, is given a series."""
    frame = notes()[["note", "y"]]
    model = make_pipeline(step, LogisticRegression()).fit(frame["note"], frame["y"])

    bundle = made(model, frame, tmp_path)

    assert bundle.input == "series"
    expected = model.predict_proba(frame["note"])
    assert np.array_equal(expected, bundles.told(bundle.estimator.predict([(note,) for note in frame["note"]])))


def golden_table(model: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows with the model's answers, as an export names them."""
    inputs = frame[["a", "b", "c"]]
    shares = pd.DataFrame(model.predict_proba(inputs), columns=[f"probability.{label}" for label in model.classes_])
    return inputs.assign(prediction=model.predict(inputs)).join(shares)


def test_golden_rows_of_the_user(tmp_path: Path) -> None:
    """Rows with the answers that the model gave elsewhere prove it here, and at each load."""
    frame = bundles.numbers()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame[["a", "b", "c"]], frame["y"])
    golden = golden_table(model, frame)

    bundle = made(model, frame, tmp_path, golden=golden.round(8), made_by="scikit-learn 1.3.2")

    manifest, _ = read_manifest(bundle.folder)
    assert manifest.made_by == "scikit-learn 1.3.2"
    assert manifest.proof is not None
    assert (manifest.proof.source, manifest.proof.rows) == ("the user's golden rows", len(frame))
    assert len(bundle.golden_rows) == 20 + 200


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda golden: golden.assign(**{"probability.yes": 0.5}), "answers 240 of 240 golden rows otherwise"),
        (lambda golden: golden.assign(prediction="no"), r"answers \d+ of 240 golden rows otherwise"),
        (lambda golden: golden.drop(columns="probability.no"), "lack the model's answers there: probability.no"),
        (lambda golden: golden.drop(columns="b"), "lack columns that the model takes: b"),
        (lambda golden: golden[:9], "9 golden rows prove little; give at least 10"),
    ],
)
def test_golden_rows_that_do_not_agree(tmp_path: Path, change: Any, line: str) -> None:
    """A model that answers otherwise than it did, or golden rows that cannot tell, are refused."""
    frame = bundles.numbers()
    model = LogisticRegression().fit(frame[["a", "b", "c"]], frame["y"])

    with pytest.raises(BundleError, match=line):
        made(model, frame, tmp_path, golden=change(golden_table(model, frame)))


def test_another_version_takes_golden_rows(tmp_path: Path) -> None:
    """A model of another scikit-learn is not bundled on its answers here alone."""
    frame = bundles.numbers()
    model = LogisticRegression().fit(frame[["a", "b", "c"]], frame["y"])

    with pytest.raises(BundleError, match=r"written by scikit-learn 1\.3\.2; only golden rows"):
        made(model, frame, tmp_path, made_by="scikit-learn 1.3.2")
