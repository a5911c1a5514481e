"""The user's own modules in a bundle: packed, pinned, permitted, and apart from all others of their name."""

from __future__ import annotations

import importlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import app
from app.bundling import build_bundle
from app.commands.bundle import load_model_file
from app.errors import BundleError
from app.serving.bundle.reader import Bundle, read_bundle
from app.serving.bundle.user_code import CODE, MAX_CODE_BYTES, UserCode, pack

FEATURES = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
import app.scale
from app import scale

class Scaled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = np.asarray(X).shape[1]
        return self

    def transform(self, X):
        from app.scale import times
        assert scale is app.scale
        return times(np.asarray(X, dtype=float))
"""
SCALE = """
import json, pkgutil
from . import numbers

def times(rows):
    import features
    stored = json.loads(pkgutil.get_data(__name__, "factor.json"))
    return rows * stored * numbers.ONE
"""


def write(folder: Path, factor: float) -> Path:
    """A user's folder: a module, and a package that is called like ours."""
    package = folder / "app"
    (package / "__pycache__").mkdir(parents=True)
    (folder / "features.py").write_text(FEATURES, encoding="utf-8")
    (package / "__init__.py").touch()
    (package / "scale.py").write_text(SCALE, encoding="utf-8")
    (package / "numbers.py").write_text("ONE = 1.0", encoding="utf-8")
    (package / "factor.json").write_text(str(factor), encoding="utf-8")
    (package / "__pycache__" / "scale.pyc").write_bytes(b"x")
    return folder


def data(rows: int = 300) -> pd.DataFrame:
    """Rows with a truth that a line divides."""
    frame = pd.DataFrame(np.random.default_rng(1).normal(size=(rows, 2)), columns=["a", "b"])
    return frame.assign(y=(frame["a"] > frame["b"]).astype(int))


def fitted(code: UserCode) -> Any:
    """A model of the user's classes, as the user's own program fits it."""
    with code.under_own_names():
        own = importlib.import_module("features")
        return make_pipeline(own.Scaled(), LogisticRegression(C=0.01)).fit(data()[["a", "b"]], data()["y"])


def bundled(folder: Path, models: Path, version: str, **more: Any) -> tuple[Path, Any]:
    """A bundle with the code of a folder, and the model in it."""
    model = fitted(UserCode(pack([folder])))
    path = build_bundle(
        model, data=data(), target="y", name="own", version=version, models=models, code_path=[folder], **more
    )
    return path, model


def probabilities(bundle: Bundle, rows: list[tuple[float, float]]) -> Any:
    """What a loaded model answers."""
    return np.array([answer.probabilities for answer in bundle.estimator.predict(rows)])


@pytest.mark.parametrize("form", ["skops", "joblib"])
def test_modules_of_one_name_live_beside_each_other(tmp_path: Path, form: str) -> None:
    """Two versions whose modules differ, and have names of ours, each give their own answers in one process."""
    ours = sys.modules["app.errors"], sys.modules["app"]
    made = [bundled(write(tmp_path / str(factor), factor), tmp_path, str(factor), format=form) for factor in (1, 7)]
    loaded = [read_bundle(path, allow_pickle=True) for path, _ in made]
    rows = [(0.5, -0.25), (-1.0, 2.0)]

    for bundle, (_, model) in zip(loaded, made, strict=True):
        expected = model.predict_proba(pd.DataFrame(rows, columns=["a", "b"]))
        assert probabilities(bundle, rows) == pytest.approx(expected)
    assert probabilities(loaded[0], rows) != pytest.approx(probabilities(loaded[1], rows))
    assert (sys.modules["app.errors"], sys.modules["app"]) == ours
    assert app.__name__ == "app"
    assert "features" not in sys.modules


def test_a_model_that_the_program_itself_has_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes of a module on the path become the bundle's own, and the program's module stays."""
    source = FEATURES.replace("import app.scale\nfrom app import scale\n", "").replace(
        "from app.scale", "from ownscale"
    )
    (tmp_path / "ownfeatures.py").write_text(source.replace("assert scale is app.scale", "pass"), encoding="utf-8")
    (tmp_path / "ownscale.py").write_text("def times(rows):\n    return rows", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("ownfeatures")
    model = make_pipeline(own.Scaled(), LogisticRegression()).fit(data()[["a", "b"]], data()["y"])
    files = [tmp_path / "ownfeatures.py", tmp_path / "ownscale.py"]
    path = build_bundle(model, data=data(), target="y", name="own", models=tmp_path / "models", code_path=files)

    stored = skops.io.get_untrusted_types(file=path / "model.skops")
    assert stored == [f"{UserCode(pack(files)).package}.ownfeatures.Scaled"]
    assert read_bundle(path, allow_pickle=True).estimator.predict([(1.0, -1.0)])[0].prediction == 1
    assert sys.modules["ownfeatures"] is own


def test_code_runs_with_permission_alone(tmp_path: Path) -> None:
    """Without it, or where a byte was changed, nothing of the archive is imported."""
    folder = write(tmp_path / "code", 3.0)
    path, _ = bundled(folder, tmp_path, "1")
    with pytest.raises(BundleError, match=r"code\.zip: the bundle has code of its own.*serving\.allow_pickle: true"):
        read_bundle(path)
    (folder / "features.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    (path / CODE).write_bytes(pack([folder]))
    with pytest.raises(BundleError, match=r"code\.zip: is damaged or was changed"):
        read_bundle(path, allow_pickle=True)

    assert not (tmp_path / "ran").exists()


def test_an_archive_depends_on_its_content_alone(tmp_path: Path) -> None:
    """The same modules give the same bytes, wherever and whenever; caches and hidden files stay out."""
    first, second = pack([write(tmp_path / "one", 1.0)]), pack([write(tmp_path / "two", 1.0)])
    (tmp_path / "two" / "app" / ".secret").touch()

    assert first == second == pack([tmp_path / "two"]) == pack([tmp_path / "two" / "app", tmp_path / "two/features.py"])
    names = zipfile.ZipFile(io.BytesIO(first)).namelist()
    assert names == ["app/__init__.py", "app/factor.json", "app/numbers.py", "app/scale.py", "features.py"]


def _large(folder: Path) -> list[Path]:
    (folder / "large.py").write_bytes(b"#" * (MAX_CODE_BYTES + 1))
    return [folder / "large.py"]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (lambda folder: [folder / "nothing.py"], r"nothing\.py: expected a \.py file, a package"),
        (lambda folder: [folder / "empty"], "empty: expected a"),
        (lambda folder: [folder / "code" / "app" / "factor.json"], "expected a"),
        (lambda folder: [folder / "code", folder / "code" / "features.py"], r"features\.py was given before"),
        (_large, "more than 16777216 bytes"),
    ],
    ids=["nothing", "empty", "no code", "twice", "large"],
)
def test_a_path_that_is_no_code(tmp_path: Path, paths: Any, said: str) -> None:
    """It is refused in one line that names it."""
    write(tmp_path / "code", 1.0)
    (tmp_path / "empty").mkdir()

    with pytest.raises(BundleError, match=said):
        pack(paths(tmp_path))


def test_a_file_whose_code_is_not_there_names_the_flag(tmp_path: Path) -> None:
    """A model of unknown classes says which option gives them; with it, the model loads."""
    folder = write(tmp_path / "code", 1.0)
    code = UserCode(pack([folder]))
    with code.under_own_names():
        own = importlib.import_module("features")
        own.Scaled.__module__ = "features"  # as in the program that fitted it
        joblib.dump(own.Scaled().fit([[1.0, 2.0]]), tmp_path / "m.joblib")
    own.Scaled.__module__ = own.__name__
    with pytest.raises(BundleError, match=r"the module features is not installed here.*--code-path features\.py"):
        load_model_file(tmp_path / "m.joblib", allow_pickle=True, trusted_types=())
