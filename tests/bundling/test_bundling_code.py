"""`plumbline bundle --code-path`, on files that another program has written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.serving.bundle.reader import read_bundle
from tests.support.programs import Done, run_command

CLASSES = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

class Nearest(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_, self.n_features_in_ = np.unique(y), 2
        self.feature_names_in_ = np.array(["a", "b"], dtype=object)
        self.centres_ = np.array([np.asarray(X)[np.asarray(y) == each].mean(axis=0) for each in self.classes_])
        return self

    def predict_proba(self, X):
        near = np.exp(-((np.asarray(X, dtype=float)[:, None] - self.centres_) ** 2).sum(axis=2))
        return near / near.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
"""
PROGRAM = """
import json, sys
import joblib, numpy as np, pandas as pd, skops.io
from mine import Nearest

rng = np.random.default_rng(3)
rows = pd.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"])
truth = np.where(rows["a"] + rng.normal(size=200) > 0, "yes", "no")
model = Nearest().fit(rows, truth)
skops.io.dump(model, "model.skops")
joblib.dump(model, "model.joblib")
rows.assign(y=truth).to_csv("train.csv", index=False)
print(json.dumps(model.predict_proba(rows[:5]).tolist()))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[float]]]:
    """The folder of a program that fits a model of its own class, and five of the model's answers."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "mine.py").write_text(CLASSES, encoding="utf-8")
    (folder / "fit.py").write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run([sys.executable, "fit.py"], cwd=folder, check=True, capture_output=True, text=True)
    return folder, json.loads(done.stdout)


def bundle(folder: Path, models: Path, *options: str | Path, model: str = "model.skops") -> Done:
    """One run of the command."""
    named = ["--data", folder / "train.csv", "--target", "y", "--name", "own", "--models", models]
    return run_command("bundle", folder / model, *named, *options)


@pytest.mark.parametrize(
    ("model", "options"), [("model.skops", ()), ("model.joblib", ("--allow-pickle",))], ids=["skops", "joblib"]
)
def test_an_own_estimator_answers_as_before(
    program: tuple[Path, list[list[float]]], tmp_path: Path, model: str, options: tuple[str, ...]
) -> None:
    """With its module the file is taken, served as skops, and the last line has the setting that it needs."""
    folder, expected = program
    done = bundle(folder, tmp_path, "--code-path", folder / "mine.py", *options, model=model)
    assert done.returncode == 0, done.stderr
    loaded = read_bundle(tmp_path / "own" / "1", allow_pickle=True)
    rows = [tuple(map(float, line.split(",")[:2])) for line in (folder / "train.csv").read_text().splitlines()[1:6]]

    assert loaded.format == "skops"
    for answer, probabilities in zip(loaded.estimator.predict(rows), expected, strict=True):
        assert answer.probabilities == pytest.approx(probabilities)
    assert "PLUMBLINE__SERVING__ALLOW_PICKLE=true" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("model", "options"), [("model.skops", ()), ("model.joblib", ("--allow-pickle",))], ids=["skops", "joblib"]
)
def test_a_missing_module_names_its_flag(
    program: tuple[Path, list[list[float]]], tmp_path: Path, model: str, options: tuple[str, ...]
) -> None:
    """Without it, the one line of the refusal says what to add."""
    done = bundle(program[0], tmp_path, *options, model=model)

    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "--code-path mine.py" in done.stderr
