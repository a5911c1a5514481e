"""Doubts about a model that is bundled all the same: the manifest keeps them as warnings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from app.bundling import build_bundle
from app.errors import BundleError
from app.serving.bundle.reader import read_manifest
from tests.support.models import bundles
from tests.support.models.bundles import fit


def warnings_of(folder: Path) -> tuple[str, ...]:
    """What the bundle's manifest warns of."""
    return read_manifest(folder)[0].warnings


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
