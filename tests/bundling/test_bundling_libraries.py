"""Pipelines of scikit-learn's neighbours are bundled with the flags that the error names, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import xgboost
from catboost import CatBoostClassifier
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline as make_balanced_pipeline
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app.serving.bundle.reader import read_bundle
from tests.commands.test_bundle import run
from tests.serving.runtimes.test_boosters import NAMES, NUMBERS, QUIET, people, rows_of


def prepared() -> Any:
    """The step before an estimator: numbers completed, names as columns of their own."""
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), NAMES), (SimpleImputer(), NUMBERS)
    )


MODELS: dict[str, Callable[[], Any]] = {
    "xgboost": lambda: make_pipeline(prepared(), xgboost.XGBClassifier(n_estimators=5)),
    "lightgbm": lambda: make_pipeline(prepared(), lightgbm.LGBMClassifier(n_estimators=5, verbose=-1)),
    "catboost": lambda: make_pipeline(prepared(), CatBoostClassifier(**QUIET)),
    "sampling": lambda: make_balanced_pipeline(prepared(), SMOTE(random_state=0), LogisticRegression(max_iter=500)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_the_flags_of_the_error_are_all_that_is_needed(tmp_path: Path, name: str) -> None:
    """A pipeline in a pickle is bundled with the flags of each refusal, and answers as it did."""
    frame = people()
    model = MODELS[name]().fit(frame[NUMBERS + NAMES], frame["code"])
    joblib.dump(model, tmp_path / "model.pkl")
    frame[[*NUMBERS, *NAMES, "code"]].rename(columns={"code": "y"}).to_csv(tmp_path / "train.csv", index=False)

    flags: list[str] = []
    for _ in range(3):
        result = run(tmp_path, *flags, model="model.pkl")
        if result.exit_code == 0:
            break
        flags += re.findall(r"--allow-pickle|--trust|(?<=--trust )[\w.]+", str(result.exception))

    assert result.exit_code == 0, result.output
    trusted = [word for word in flags if not word.startswith("--")]
    assert ("TRUSTED_TYPES" in result.stdout) == bool(trusted)
    served = read_bundle(tmp_path / "models/credit/1", trusted_types=trusted).estimator
    rows = frame[NUMBERS + NAMES].head(30)
    found = [answer.probabilities for answer in served.predict(rows_of(rows))]
    assert np.allclose(np.array(found), model.predict_proba(rows), rtol=1e-12)
