"""The table of model formats: each entry is stored, loaded, allowed and bundled by what it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

from app.bundling import build_bundle
from app.commands.bundle import load_model_file
from app.errors import BundleError
from app.serving.bundle.reader import libraries, read_bundle
from app.serving.runtimes.boosters import as_booster
from app.serving.runtimes.formats import FORMATS, dump_model, format_of_file, storable
from tests.support.models import bundles

FILES = [(name, suffix) for name, entry in FORMATS.items() for suffix in entry.suffixes]


OWN: dict[str, Any] = {
    "xgboost": XGBClassifier(n_estimators=2),
    "lightgbm": LGBMClassifier(n_estimators=2, verbose=-1),
    "catboost": CatBoostClassifier(iterations=2, verbose=0, allow_writing_files=False),
}
"""Models of the libraries that have a format of their own."""


def model_bytes(name: str) -> bytes:
    """A small fitted model in a format."""
    frame = bundles.numbers()
    if name in OWN:
        truth = (frame["y"] == "yes").astype(int) if name == "xgboost" else frame["y"]
        return as_booster(OWN[name].fit(frame[["a", "b", "c"]], truth), name).data
    model = LogisticRegression().fit(frame[["a", "b", "c"]].to_numpy(), frame["y"])
    if FORMATS[name].dump is not None:
        return dump_model(model, name)
    return bytes(
        to_onnx(
            model, frame[["a", "b", "c"]].to_numpy(dtype="float32")[:1], options={"zipmap": False}
        ).SerializeToString()
    )


@pytest.mark.parametrize(("name", "suffix"), FILES)
def test_every_file_becomes_a_bundle_that_serves(tmp_path: Path, name: str, suffix: str) -> None:
    """A file of each ending is read by its format, bundled, and loaded again with the permission that it needs."""
    file, entry = tmp_path / f"model{suffix}", FORMATS[name]
    file.write_bytes(model_bytes(name))
    model, _ = load_model_file(file, allow_pickle=entry.runs_code, trusted_types=())
    stored = name if name in storable() else "auto"
    folder = build_bundle(
        model, data=bundles.numbers(), target="y", name="small", models=tmp_path / "models", format=stored
    )
    found = read_bundle(folder, allow_pickle=entry.runs_code)

    assert format_of_file(file) == name
    assert found.format == name
    assert len(found.estimator.predict(found.golden_rows)) == len(found.golden_rows)
    assert entry.library in libraries()


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.runs_code])
def test_a_file_that_runs_code_asks_for_permission(tmp_path: Path, name: str) -> None:
    """Neither the command nor the service loads such a file unless it is told to."""
    file = tmp_path / f"model{FORMATS[name].suffixes[0]}"
    file.write_bytes(model_bytes(name))
    with pytest.raises(BundleError, match="runs the code inside it"):
        load_model_file(file, allow_pickle=False, trusted_types=())
    model, _ = load_model_file(file, allow_pickle=True, trusted_types=())
    folder = build_bundle(
        model, data=bundles.numbers(), target="y", name="small", models=tmp_path / "models", format=name
    )

    with pytest.raises(BundleError, match=f"loading a {name} file runs the code inside it"):
        read_bundle(folder)


def test_a_suffix_has_one_format() -> None:
    """The ending of a file's name says its format, whatever the file holds."""
    endings = [suffix for _, suffix in FILES]

    assert len(set(endings)) == len(endings)


@pytest.mark.parametrize("name", ["pmml", "onnx"])
def test_a_fitted_model_is_stored_in_known_formats_alone(name: str) -> None:
    """An unknown format, and one whose files are made elsewhere, are refused with those that can be."""
    with pytest.raises(BundleError, match=f"a fitted model is stored as skops or joblib, not as {name}"):
        dump_model(LogisticRegression(), name)
