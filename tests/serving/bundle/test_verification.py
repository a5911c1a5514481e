"""A bundle is tried in a process of its own before the process that serves loads it."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from app.config.settings import Serving
from app.errors import BundleError
from app.serving.bundle.verification import Verifier, verify_bundle
from app.serving.runtimes.skops import load_skops
from tests.support.application import client_of, make_config
from tests.support.models.faulty import DIES, HANGS, build_moody, set_golden_row
from tests.support.models.versions import ANSWERS, NAME, ROW, build_versions


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder of models with versions of one, and a model that dies or hangs on some rows."""
    folder = tmp_path / "models"
    build_versions(folder)
    build_moody(folder, "moody", "1")
    return folder


def crafted_tree() -> bytes:
    """A skops file whose tree leads to a node far beyond its own."""
    numbers = np.random.default_rng(7).normal(size=(64, 3))
    model = DecisionTreeClassifier(random_state=7).fit(numbers, (numbers[:, 0] > 0).astype(int))
    model.tree_.children_left[0] = 2**30
    return bytes(skops.io.dumps(model))


def test_a_crafted_tree_is_refused() -> None:
    """A tree that points out of its nodes is refused before anything follows it."""
    with pytest.raises(BundleError, match="points out of its own nodes"):
        load_skops(crafted_tree())


@pytest.mark.parametrize(
    "model",
    [DecisionTreeClassifier(), HistGradientBoostingClassifier(max_iter=3), KNeighborsClassifier(algorithm="kd_tree")],
)
def test_sound_trees_are_taken(model: object) -> None:
    """Trees of every kind that scikit-learn has fitted are loaded."""
    numbers = np.random.default_rng(7).normal(size=(200, 3))
    fitted = model.fit(numbers, (numbers[:, 0] > 0).astype(int))  # type: ignore[attr-defined]  # a classifier

    assert load_skops(skops.io.dumps(fitted)).predict(numbers[:1]).shape == (1,)


@pytest.mark.parametrize(("value", "word"), [(DIES, "died"), (HANGS, "took longer")])
def test_a_bundle_that_ends_or_hangs_its_process_is_refused(models: Path, value: float, word: str) -> None:
    """The process that tries a bundle dies or hangs in place of the service; the reason is told."""
    folder = models / "moody" / "1"
    set_golden_row(folder, value)

    with pytest.raises(BundleError, match=f"tried in a process of its own, and .*{word}"):
        verify_bundle(folder, Serving(allow_pickle=True), seconds=2.0 if value == HANGS else 60.0)


def test_a_refused_activation_leaves_the_active_version(tmp_path: Path, models: Path) -> None:
    """A version whose process dies is a 409 with the reason, and the version before goes on answering."""
    moody = models / NAME / "9"
    shutil.copytree(models / "moody" / "1", moody)
    manifest = (moody / "bundle.yaml").read_text().replace("name: moody", f"name: {NAME}")
    (moody / "bundle.yaml").write_text(manifest.replace("version: '1'", "version: '9'"))
    set_golden_row(moody, DIES)
    config = make_config(tmp_path, models, f"{NAME}/1", serving={"allow_pickle": True})
    with client_of(config) as client:
        refused = client.post(f"/models/{NAME}/activate", {"version": "9"})
        answer = client.post("/predict", {"features": ROW}).json()

    assert refused.status_code == 409
    assert "the process died" in refused.json()["detail"]
    assert (answer["model_version"], answer["prediction"]) == ("1", ANSWERS["1"])


def test_what_has_passed_is_remembered(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle is tried once for the same files, libraries and settings; the memory is the owner's alone."""
    tried: list[Path] = []
    monkeypatch.setattr("app.serving.bundle.verification.verify_bundle", lambda folder, _: tried.append(folder))
    memory, folder = tmp_path / "store.verified", models / NAME / "1"
    for settings in (Serving(), Serving(), Serving(allow_pickle=True)):
        Verifier(settings, memory).verify(folder)
    assert len(tried) == 2
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    assert len(json.loads(memory.read_text())) == 2
    (folder / "bundle.yaml").write_text((folder / "bundle.yaml").read_text() + "\n")
    Verifier(Serving(), memory).verify(folder)
    memory.write_text("no JSON")
    Verifier(Serving(), memory).verify(folder)
    assert len(tried) == 4
    os.chmod(memory, 0o400)  # noqa: PTH101 - the file itself is not written but replaced
    Verifier(Serving(), None).verify(folder)
    assert len(tried) == 5
