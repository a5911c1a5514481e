"""Models of XGBoost, LightGBM and CatBoost answer as their own library does, out of its own file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from app.bundling import build_bundle
from app.commands.bundle import load_model_file
from app.errors import BundleError
from app.serving.bundle.reader import Bundle, read_bundle
from app.serving.runtimes.boosters import load_booster
from app.types import FeatureType

TREES = 8
QUIET: dict[str, Any] = {"iterations": TREES, "verbose": 0, "allow_writing_files": False, "random_seed": 0}
NUMBERS = ["age", "income", "ratio"]
NAMES = ["channel", "region"]


def people(rows: int = 250) -> pd.DataFrame:
    """Rows of numbers, some missing, and of names, with a truth of each kind."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "income": np.exp(rng.normal(10, 0.6, rows)),
            "ratio": np.where(rng.random(rows) < 0.1, np.nan, rng.random(rows)),
            "channel": rng.choice(["web", "shop", "phone"], rows),
            "region": rng.choice(list("ABCDE"), rows),
        }
    )
    score = 0.05 * (frame["age"] - 50) + 2 * (frame["channel"] == "web") - frame["ratio"].fillna(0.5)
    noisy = score + rng.normal(0, 0.5, rows)
    return frame.assign(
        amount=noisy, code=(noisy > 0).astype(int), word=np.where(noisy > 0, "good", "bad"), size=_third(noisy)
    )


def _third(score: pd.Series[float]) -> list[str]:
    words: list[str] = np.array(["low", "middle", "top"])[np.digitize(score, score.quantile([1 / 3, 2 / 3]))].tolist()
    return words


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The names as pandas categories."""
    return frame.astype(dict.fromkeys(NAMES, "category"))


MADE: dict[str, tuple[Callable[[], Any], list[str], str]] = {
    "xgboost, two classes": (lambda: xgboost.XGBClassifier(n_estimators=TREES), NUMBERS, "code"),
    "xgboost, numbers": (lambda: xgboost.XGBRegressor(n_estimators=TREES), NUMBERS, "amount"),
    "xgboost, linear": (lambda: xgboost.XGBRegressor(booster="gblinear", n_estimators=3), ["age", "income"], "amount"),
    "xgboost, categories": (
        lambda: xgboost.XGBClassifier(n_estimators=TREES, enable_categorical=True),
        NUMBERS + NAMES,
        "code",
    ),
    "lightgbm, words": (lambda: lightgbm.LGBMClassifier(n_estimators=TREES, verbose=-1), NUMBERS, "word"),
    "lightgbm, three classes": (lambda: lightgbm.LGBMClassifier(n_estimators=TREES, verbose=-1), NUMBERS, "size"),
    "lightgbm, numbers": (lambda: lightgbm.LGBMRegressor(n_estimators=TREES, verbose=-1), NUMBERS, "amount"),
    "lightgbm, categories": (
        lambda: lightgbm.LGBMClassifier(n_estimators=TREES, verbose=-1),
        NUMBERS + NAMES,
        "word",
    ),
    "catboost, names": (
        lambda: catboost.CatBoostClassifier(**QUIET, cat_features=NAMES),
        NUMBERS + NAMES,
        "word",
    ),
    "catboost, three classes": (lambda: catboost.CatBoostClassifier(**QUIET), NUMBERS, "size"),
    "catboost, numbers": (lambda: catboost.CatBoostRegressor(**QUIET), NUMBERS, "amount"),
    "catboost, counts": (
        lambda: catboost.CatBoostRegressor(**QUIET, loss_function="Poisson"),
        NUMBERS,
        "code",
    ),
}


def fitted(name: str) -> tuple[Any, pd.DataFrame, str]:
    """A fitted model, the columns that it takes, and its target."""
    make, columns, target = MADE[name]
    frame = people()
    given = frame if name.startswith("catboost") else typed(frame)
    return make().fit(given[columns], frame[target]), given[columns], target


def bundled(model: Any, data: pd.DataFrame, target: str, folder: Path, **more: Any) -> Bundle:
    """Bundle a model with its data, and load it."""
    return read_bundle(build_bundle(model, data=data, target=target, name="people", models=folder, **more))


def rows_of(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Rows as a caller sends them."""
    plain = frame.astype(object)
    return [tuple(row) for row in plain.where(frame.notna(), None).to_numpy().tolist()]


def assert_same(found: Bundle, model: Any, frame: pd.DataFrame) -> None:
    """Each row alone, and all together, are answered as the library answers them."""
    rows = rows_of(frame)
    answers = found.estimator.predict(rows)
    assert answers == [found.estimator.predict([row])[0] for row in rows]
    if found.schema.classes:
        assert [answer.probabilities for answer in answers] == list(map(tuple, model.predict_proba(frame).tolist()))
        assert [answer.prediction for answer in answers] == np.ravel(model.predict(frame)).tolist()
    else:
        assert [answer.prediction for answer in answers] == np.asarray(model.predict(frame), dtype=float).tolist()


@pytest.mark.parametrize("name", MADE)
def test_a_fitted_model_is_stored_in_its_own_format(tmp_path: Path, name: str) -> None:
    """A model of the scikit-learn interface needs no permission where it is served, and answers to the last bit."""
    model, frame, target = fitted(name)

    found = bundled(model, frame.assign(**{target: people()[target]}), target, tmp_path)

    assert found.format == found.runtime == name.partition(",")[0]
    assert_same(found, model, frame.head(40))


SAVED: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "xgboost, two classes": (".ubj", lambda model, path: model.save_model(path)),
    "xgboost, categories": (".json", lambda model, path: model.save_model(path)),
    "xgboost, numbers": (".json", lambda model, path: model.get_booster().save_model(path)),
    "lightgbm, words": (".txt", lambda model, path: model.booster_.save_model(path)),
    "lightgbm, three classes": (".txt", lambda model, path: model.booster_.save_model(path)),
    "lightgbm, categories": (".txt", lambda model, path: model.booster_.save_model(path)),
    "catboost, names": (".cbm", lambda model, path: model.save_model(path)),
    "catboost, numbers": (".cbm", lambda model, path: model.save_model(path)),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_file_of_the_library_is_bundled(tmp_path: Path, name: str) -> None:
    """The library's own file is taken as it is, with names as text in the data, and answers to the last bit."""
    suffix, save = SAVED[name]
    model, frame, target = fitted(name)
    save(model, str(tmp_path / f"model{suffix}"))
    loaded, _ = load_model_file(tmp_path / f"model{suffix}", allow_pickle=False, trusted_types=())

    found = bundled(loaded, people(), target, tmp_path)

    assert [feature.name for feature in found.schema.features] == list(frame.columns)
    assert_same(found, model, frame.head(40))


def test_the_best_iteration_answers(tmp_path: Path) -> None:
    """A model that stopped early answers with the trees up to its best iteration, as its own interface does."""
    frame = people()
    model = xgboost.XGBRegressor(n_estimators=200, learning_rate=0.9, early_stopping_rounds=2)
    model.fit(frame[NUMBERS][:150], frame["amount"][:150], eval_set=[(frame[NUMBERS][150:], frame["amount"][150:])])
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()

    assert_same(bundled(model, frame, "amount", tmp_path), model, frame[NUMBERS].head(40))


def test_numbers_that_are_names(tmp_path: Path) -> None:
    """Whole numbers that the model takes as names become categories of the schema, and the model gets numbers."""
    frame = people().assign(store=lambda rows: np.arange(len(rows)) * 7 % 12 * 100)
    model = catboost.CatBoostClassifier(**QUIET, cat_features=["store"]).fit(frame[["age", "store"]], frame["word"])

    found = bundled(model, frame, "word", tmp_path)

    assert found.schema.features[1].type is FeatureType.CATEGORICAL
    assert found.schema.features[1].categories == tuple(range(0, 1200, 100))
    assert_same(found, model, frame[["age", "store"]].head(40))


def test_a_threshold_inside_the_model_decides(tmp_path: Path) -> None:
    """A CatBoost model with a probability threshold of its own gives the labels that the library gives."""
    frame = people()
    model = catboost.CatBoostClassifier(**QUIET).fit(frame[NUMBERS], frame["word"])
    model.set_probability_threshold(0.8)

    found = bundled(model, frame, "word", tmp_path)

    assert_same(found, model, frame[NUMBERS])
    assert (
        sum(answer.prediction == "good" for answer in found.estimator.predict(rows_of(frame[NUMBERS])))
        < (model.predict_proba(frame[NUMBERS])[:, 1] > 0.5).sum()
    )


def test_classes_get_the_names_of_the_target(tmp_path: Path) -> None:
    """A file that knows its classes by number gets the sorted values of the target, if these fit the truth."""
    frame = people()
    model = lightgbm.LGBMClassifier(n_estimators=TREES, verbose=-1).fit(frame[NUMBERS], frame["code"])
    model.booster_.save_model(str(tmp_path / "model.txt"))

    def load() -> Any:
        return load_model_file(tmp_path / "model.txt", allow_pickle=False, trusted_types=())[0]

    assert bundled(load(), frame, "word", tmp_path).schema.classes == ("bad", "good")
    turned = frame.assign(word=np.where(frame["code"] == 0, "good", "bad"))
    with pytest.raises(BundleError, match=r"in the order good, bad .* give the target as the numbers"):
        bundled(load(), turned, "word", tmp_path, version="2")
    with pytest.raises(BundleError, match="the model tells 2 classes apart, not 3"):
        bundled(load(), frame, "size", tmp_path, version="3")


def test_a_model_that_knows_its_classes_may_be_wrong(tmp_path: Path) -> None:
    """A fitted model tells the names of its classes; that it is mostly wrong on the data is no reason to doubt them."""
    frame = people()
    model = lightgbm.LGBMClassifier(n_estimators=TREES, verbose=-1).fit(frame[NUMBERS], frame["word"])
    turned = frame.assign(word=np.where(frame["word"] == "bad", "good", "bad"))

    found = bundled(model, turned, "word", tmp_path)

    assert found.schema.classes == ("bad", "good")
    assert_same(found, model, frame[NUMBERS].head(40))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (xgboost.XGBClassifier(n_estimators=2, missing=-1.0), "takes -1.0 as a missing value.*--format joblib"),
        (xgboost.XGBClassifier(n_estimators=2, objective="binary:hinge"), "binary:hinge gives no probabilities"),
        (xgboost.XGBClassifier(), "cannot store the model .* is it fitted"),
    ],
    ids=["missing value", "objective", "not fitted"],
)
def test_what_the_file_cannot_hold_is_refused(tmp_path: Path, model: Any, reason: str) -> None:
    """A model that its own file would change is refused with the reason and what to do."""
    frame = people()
    if "fitted" not in reason:
        model.fit(frame[NUMBERS], frame["code"])
    with pytest.raises(BundleError, match=reason):
        bundled(model, frame, "code", tmp_path)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 100, b"{}", b"tree\nversion=v4\n"], ids=["empty", "zeros", "{}", "head"]
)
def test_a_damaged_file_is_refused(library: str, data: bytes) -> None:
    """A file that is none is one line, whatever the library raises."""
    with pytest.raises(BundleError, match=f"^model: ({library} cannot read it|is neither JSON nor UBJSON)"):
        load_booster(library, data, "model")


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """The error has the command that installs it."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BundleError, match=rf"not installed here .*pip install 'plumbline\[{library}\]'"):
        load_booster(library, b"", "model")


def test_a_number_beyond_single_precision_has_a_bound(tmp_path: Path) -> None:
    """A library of float32 would make such a number infinite, so that the runtime says which ones it takes."""
    model, frame, target = fitted("xgboost, numbers")
    found = bundled(model, frame.assign(amount=people()[target]), target, tmp_path)

    assert set(found.estimator.bounds) == set(NUMBERS)
