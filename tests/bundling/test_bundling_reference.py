"""The reference of a bundle: which rows are kept, in which order, and whether the model was fitted on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from app.bundling import REFERENCE_ROWS, build_bundle, check_unseen
from app.errors import BundleError
from app.monitoring.reference.reference import load_reference
from app.serving.bundle.reader import read_bundle, read_manifest
from tests.support.models import bundles
from tests.support.models.bundles import fit


def test_in_sample(tmp_path: Path) -> None:
    """Without a holdout, the reference is the training data, and says so."""
    frame = bundles.numbers()
    folder = build_bundle(fit(LogisticRegression(), frame), data=frame, target="y", name="m", models=tmp_path)

    assert read_bundle(folder).in_sample
    assert json.loads((folder / "profile.json").read_bytes())["in_sample"] is True


def test_a_column_that_groups_rows_is_found_and_named(tmp_path: Path) -> None:
    """A user beside the features whose rows resemble each other is kept as numbers, and the bundle says what to do."""
    rng = np.random.default_rng(4)
    user = np.repeat(np.arange(150), 10)
    own = rng.normal(size=(150, 3))
    rows = own[user] + rng.normal(0, 0.4, (1500, 3))
    frame = pd.DataFrame(rows, columns=["a", "b", "c"])
    frame["y"] = np.where(rows.sum(axis=1) + rng.normal(size=1500) > 0, 1, 0)
    frame["user"], frame["ticket"] = [f"u{each}" for each in user], rng.integers(0, 100, 1500)
    model = LogisticRegression().fit(frame[["a", "b", "c"]], frame["y"])
    folder = build_bundle(model, data=frame, target="y", name="m", models=tmp_path)
    found = load_reference(folder, read_bundle(folder).schema).groups

    assert found is not None
    assert (found.name, np.array_equal(found.codes, user)) == ("user", True)
    assert any(
        "rows of one user resemble each other (150 in 1500 rows" in each for each in read_manifest(folder)[0].warnings
    )
    assert b"u149" not in (folder / "profile.json").read_bytes()


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
