"""Every estimator and transformer of the installed scikit-learn is bundled, loaded and answered as before."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.decomposition import NMF, MiniBatchNMF
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils import all_estimators

from app.bundling import build_bundle
from app.errors import BundleError
from app.serving.bundle.reader import read_bundle

ROWS = 60
LEFT_OUT = {
    **dict.fromkeys(("ClassifierChain", "MultiOutputClassifier", "MultiOutputRegressor", "RegressorChain"), "several"),
    "DictVectorizer": "takes dictionaries, no table",
    "FeatureHasher": "takes dictionaries, no table",
    "PatchExtractor": "takes images",
    "HashingVectorizer": "takes text, see the test of notes",
    "SparseCoder": "is made of a dictionary and never fitted",
    **dict.fromkeys(("LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer"), "takes the target"),
    **dict.fromkeys(("CountVectorizer", "TfidfVectorizer", "TfidfTransformer"), "takes text, see the test of notes"),
    **dict.fromkeys(("MultiTaskElasticNet", "MultiTaskElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV"), "several"),
    "IsotonicRegression": "takes one column, see its own test",
    "KernelCenterer": "takes a kernel, no table",
    "MissingIndicator": "has no column where nothing is missing",
    "TSNE": "places the rows it is fitted on, and no others",
    **dict.fromkeys(("NMF", "MiniBatchNMF"), "its answer depends on the batch, see its own test"),
    "Birch": "skops has no form for it, and says so",
}
"""What is left out, with the reason."""
QUICKER: dict[str, Any] = {
    "max_iter": 20,
    "n_estimators": 3,
    "cv": 2,
    "random_state": 0,
    "n_components": 1,
    "min_samples": 5,
}


OWN: dict[str, dict[str, Any]] = {"OrthogonalMatchingPursuitCV": {"max_iter": 2}}
NUMERIC_TARGET = {"StackingRegressor", "VotingRegressor"}
"""Transformers that learn from a number."""
TWO_TABLES = {"CCA", "PLSCanonical", "PLSRegression", "PLSSVD"}
"""Regressors that as transformers give a table of the target too, which no pipeline takes."""


def made(kind: type) -> Any:
    """An estimator with small settings, around another where it takes one."""
    inner = Ridge() if "Regress" in kind.__name__ else LogisticRegression()
    required: dict[str, Any] = {
        "estimator": inner,
        "estimators": [("one", inner), ("two", clone(inner))],
        "transformers": [("same", "passthrough", [0, 1, 2])],
        "transformer_list": [("same", "passthrough")],
        "param_grid": {"fit_intercept": [True, False]},
        "param_distributions": {"fit_intercept": [True, False]},
        "steps": [("last", inner)],
    }
    taken = {name: value for name, value in required.items() if name in signature(kind).parameters}
    model = kind(**taken)
    quicker = {name: QUICKER[name] for name in QUICKER.keys() & model.get_params(deep=False).keys() - taken.keys()}
    return model.set_params(**quicker | OWN.get(kind.__name__, {}))


def quietly_made(kind: type) -> Any:
    """The same; scikit-learn warns of those that it will drop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return made(kind)


def every(kinds: str, *, without: Collection[str] = ()) -> list[Any]:
    """All estimators of a kind that take a table and one target."""
    return [
        pytest.param(kind, id=name)
        for name, kind in all_estimators(type_filter=kinds)
        if name not in LEFT_OUT and name not in without
    ]


def table(*, regression: bool) -> pd.DataFrame:
    """Three positive columns and a target."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(0.1, 3, size=(ROWS, 3)).round(2), columns=["a", "b", "c"])
    score = frame["a"] + frame["b"] / 2 + rng.normal(scale=0.1, size=ROWS)
    return frame.assign(y=score.round(3) if regression else np.where(score > score.median(), "yes", "no"))


def check(model: Any, frame: pd.DataFrame, folder: Path) -> None:
    """Fit, bundle, load; compare the answers with scikit-learn's, alone and together."""
    inputs = frame.drop(columns="y")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(inputs, frame["y"])
        made = build_bundle(model, data=frame, target="y", name="m", models=folder)
        estimator = read_bundle(made, runtime="sklearn").estimator
        rows = inputs.to_numpy().tolist()
        together = estimator.predict(rows)
        alone = [estimator.predict([row])[0] for row in rows[:10]]
        expected = np.ravel(model.predict(inputs)).tolist()

    assert together[:10] == alone
    if is_classifier(model):
        assert expected == [answer.prediction for answer in together]
    else:
        assert pytest.approx(expected, rel=1e-9) == [answer.prediction for answer in together]


@pytest.mark.parametrize("kind", every("classifier"))
def test_classifiers(tmp_path: Path, kind: type) -> None:
    """Every classifier answers from its bundle as it did, alone and together."""
    check(quietly_made(kind), table(regression=False), tmp_path)


@pytest.mark.parametrize("kind", every("regressor"))
def test_regressors(tmp_path: Path, kind: type) -> None:
    """Every regressor answers from its bundle as it did, alone and together."""
    check(quietly_made(kind), table(regression=True), tmp_path)


@pytest.mark.parametrize("kind", every("transformer", without=TWO_TABLES))
def test_transformers(tmp_path: Path, kind: type) -> None:
    """Every transformer in front of a linear model answers from its bundle as it did, alone and together."""
    regression = kind.__name__ in NUMERIC_TARGET
    last = Ridge() if regression else LogisticRegression()
    check(make_pipeline(quietly_made(kind), last), table(regression=regression), tmp_path)


@pytest.mark.parametrize("kind", [NMF, MiniBatchNMF])
def test_factors_of_a_batch(tmp_path: Path, kind: type) -> None:
    """A factorisation that goes on until the whole batch is settled is refused by name, or given single rows."""
    frame = table(regression=False)
    model = make_pipeline(kind(2, random_state=0, max_iter=500), LogisticRegression())
    model.fit(frame.drop(columns="y"), frame["y"])

    with pytest.raises(BundleError, match=f"step {kind.__name__.lower()} computes from all rows"):
        build_bundle(model, data=frame, target="y", name="m", models=tmp_path)

    folder = build_bundle(model, data=frame, target="y", name="m", models=tmp_path, single_rows=True)
    rows = frame.drop(columns="y").to_numpy().tolist()
    estimator = read_bundle(folder).estimator
    assert estimator.predict(rows[:5]) == [estimator.predict([row])[0] for row in rows[:5]]


def test_one_column(tmp_path: Path) -> None:
    """An estimator of one column is bundled from a table of one."""
    check(IsotonicRegression(out_of_bounds="clip"), table(regression=True)[["a", "y"]], tmp_path)
