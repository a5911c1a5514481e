"""Models, data and names that no bundle is made of: each refusal is one line, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from app.bundling import build_bundle
from app.errors import BundleError
from app.serving.bundle.reader import read_bundle
from app.types import Feature, FeatureType
from tests.support.models import bundles
from tests.support.models.bundles import fit


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
