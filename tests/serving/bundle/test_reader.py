"""A bundle is read only if every file of it is what was bundled; each refusal is one line that says what to do."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression

from app.bundling import build_bundle
from app.errors import BundleError
from app.serving.bundle.reader import find_versions, read_bundle
from tests.support.models import bundles


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with a sound bundle m/1."""
    models = tmp_path_factory.mktemp("models")
    frame = bundles.numbers()
    model = LogisticRegression().fit(frame[["a", "b", "c"]].to_numpy(), frame["y"])
    build_bundle(model, data=frame, target="y", name="m", models=models, attachments={"live.csv": b"a,b,c\n"})
    return models


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of the sound bundle, to be damaged."""
    shutil.copytree(original, tmp_path / "models")
    return tmp_path / "models" / "m" / "1"


def refusal(folder: Path, **options: Any) -> str:
    """The line with which a bundle is refused, without the folder's path."""
    with pytest.raises(BundleError) as caught:
        read_bundle(folder, **{"runtime": "sklearn", **options})
    line = str(caught.value).replace(f"{folder}", "FOLDER")
    assert "\n" not in line
    return line


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_sound(folder: Path) -> None:
    """A sound bundle is loaded with its schema, its profile and golden rows that it answers as before."""
    bundle = read_bundle(folder)

    assert (
        bundle.schema.name,
        bundle.schema.version,
        bundle.schema.classes,
        bundle.schema.positive,
    ) == ("m", "1", ("no", "yes"), "yes")
    assert (bundle.format, bundle.input, bundle.in_sample) == ("skops", "array", True)
    assert 20 == len(bundle.golden_rows) == len(bundle.estimator.predict(bundle.golden_rows))
    assert bundle.profile["rows"] == bundles.ROWS
    assert bundle.baseline["accuracy"] > 0.8
    assert re.fullmatch("[0-9a-f]{64}", bundle.sha256)


@pytest.mark.parametrize("name", ["model.skops", "reference.npz", "profile.json", "live.csv"])
def test_changed_file(folder: Path, name: str) -> None:
    """One changed byte in any file refuses the bundle."""
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)

    assert refusal(folder) == (
        f"FOLDER/{name}: is damaged or was changed (its sha256 is not the one in bundle.yaml); bundle the model again"
    )


@pytest.mark.parametrize("name", ["bundle.yaml", "model.skops", "reference.npz", "profile.json"])
def test_missing_file(folder: Path, name: str) -> None:
    """A missing file is named."""
    (folder / name).unlink()

    assert refusal(folder) == (
        f"FOLDER/{name}: is missing; bundle the model again, or set serving.models and serving.active"
    )


def test_truncated_model(folder: Path) -> None:
    """A truncated model is refused even where its sha256 has been pinned anew."""
    bundles.pin(folder, "model.skops", (folder / "model.skops").read_bytes()[:-30])

    assert refusal(folder) == "FOLDER/model.skops: is not a skops archive, whatever its name says"


def test_pickle_named_skops(folder: Path, tmp_path: Path) -> None:
    """A pickle under a skops name is refused and never executed, whatever is allowed."""
    bundles.pin(folder, "model.skops", pickle.dumps(Payload(tmp_path / "executed")))

    line = refusal(folder, allow_pickle=True)

    assert line == "FOLDER/model.skops: is not a skops archive, whatever its name says"
    assert not (tmp_path / "executed").exists()


def test_joblib_needs_permission(folder: Path, tmp_path: Path) -> None:
    """A joblib model is not touched unless pickles are allowed."""
    buffer = io.BytesIO()
    joblib.dump(Payload(tmp_path / "executed"), buffer)
    bundles.pin(folder, "model.joblib", buffer.getvalue())
    bundles.rewrite(folder, format="joblib", model_file="model.joblib")

    line = refusal(folder)

    assert line == (
        "FOLDER/model.joblib: loading a joblib file runs the code inside it; bundle the model as skops, "
        "or set serving.allow_pickle: true if you trust its source"
    )
    assert not (tmp_path / "executed").exists()


def test_changed_joblib_is_not_executed(folder: Path, tmp_path: Path) -> None:
    """Even where pickles are allowed, one with another sha256 is never executed."""
    bundles.pin(folder, "model.joblib", b"the model that was bundled")
    bundles.rewrite(folder, format="joblib", model_file="model.joblib")
    joblib.dump(Payload(tmp_path / "executed"), folder / "model.joblib")

    assert "model.joblib: is damaged or was changed" in refusal(folder, allow_pickle=True)
    assert not (tmp_path / "executed").exists()


def test_reference_is_never_unpickled(folder: Path, tmp_path: Path) -> None:
    """A pickle inside reference.npz is refused and not executed."""
    buffer = io.BytesIO()
    np.savez(buffer, prediction=np.array([Payload(tmp_path / "executed")], dtype=object))
    bundles.pin(folder, "reference.npz", buffer.getvalue())

    assert "FOLDER/reference.npz: cannot be read (Object arrays cannot be loaded" in refusal(folder)
    assert not (tmp_path / "executed").exists()


def test_untrusted_type(folder: Path) -> None:
    """A type outside the reviewed list is named, ready to paste, and accepted once it is trusted."""
    from sklearn.preprocessing import FunctionTransformer

    model = FunctionTransformer(np.linalg.norm)
    bundles.pin(folder, "model.skops", skops.io.dumps(model))

    assert refusal(folder) == (
        "FOLDER/model.skops: holds types that are not trusted; if you trust its source, bundle it with "
        "--trust numpy.linalg.norm, and set serving.trusted_types: [numpy.linalg.norm] where it is served"
    )
    assert "holds a FunctionTransformer" in refusal(folder, trusted_types=["numpy.linalg.norm"])


def test_other_answers(folder: Path) -> None:
    """A model that no longer answers its golden rows as it did is refused, with the versions that differ."""
    model = skops.io.load(folder / "model.skops")
    model.intercept_ += 1e-6
    bundles.pin(folder, "model.skops", skops.io.dumps(model))
    libraries = yaml.safe_load((folder / "bundle.yaml").read_bytes())["libraries"]
    bundles.rewrite(folder, libraries=libraries | {"scikit-learn": "1.2.3"})

    assert re.fullmatch(
        r"FOLDER/model.skops: answers \d+ of 20 golden rows otherwise than when bundled; install those versions or "
        r"bundle the model again: scikit-learn 1.2.3 then, [\d.]+ now",
        refusal(folder),
    )


def test_float_labels(tmp_path: Path) -> None:
    """Golden rows compare probabilities also where the labels are numbers."""
    frame = bundles.numbers((0.0, 1.0))
    model = LogisticRegression().fit(frame[["a", "b", "c"]].to_numpy(), frame["y"])
    made = build_bundle(model, data=frame, target="y", name="m", models=tmp_path)
    model.intercept_ += 1e-6
    bundles.pin(made, "model.skops", skops.io.dumps(model))

    assert "of 20 golden rows otherwise" in refusal(made)


def test_wrong_features(folder: Path) -> None:
    """A model that takes another number of features than listed is refused."""
    features = yaml.safe_load((folder / "bundle.yaml").read_bytes())["features"]
    bundles.rewrite(folder, features=features[:2])

    assert refusal(folder) == "FOLDER/model.skops: takes 3 features, bundle.yaml lists 2; bundle the model again"


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"bundle_format": 2}, "bundle_format 2 comes from a newer Plumbline; this one reads up to 1"),
        ({"task": None}, "task: Field required"),
        ({"task": "regression"}, "classes: 2 of them do not make a regression task"),
        ({"positive_class": "maybe"}, "positive_class is none of the classes"),
        ({"files": {}}, "files lists no sha256 for model.onnx, model.skops, profile.json, reference.npz"),
        ({"threshold": 1.5}, "threshold: Input should be less than or equal to 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_manifest(folder: Path, changes: dict[str, Any], finding: str) -> None:
    """A manifest with an unknown, missing or contradicting key is refused by that key."""
    bundles.rewrite(folder, **changes)

    assert refusal(folder) == f"FOLDER/bundle.yaml: {finding}"


@pytest.mark.parametrize("text", [b"", b"[1, 2]", b"{", b"a: \x00", b"\xff\xfe", b"!!python/object:os.system {}"])
def test_no_manifest(folder: Path, text: bytes) -> None:
    """A manifest that is no YAML mapping is refused, and nothing in it is built."""
    (folder / "bundle.yaml").write_bytes(text)

    assert re.match(r"FOLDER/bundle.yaml(:1: is not plain YAML|: is not a bundle's manifest)", refusal(folder))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"made_by: &a x\nwarnings: [*a]", "an alias (`*name`) is refused"),
        (b"warnings: " + b"[" * 10_000, "it is nested more than 32 deep"),
        (b"name: m", "a key is written twice"),
        (b"libraries: {a: x, a: y}", "a key is written twice"),
        (b"#" * (8 * 2**20), "is larger than 8388608 bytes"),
    ],
)
def test_manifest_that_is_not_plain(folder: Path, line: bytes, reason: str) -> None:
    """Aliases, a repeated key, much depth or much text refuse a manifest before it is built."""
    text = (folder / "bundle.yaml").read_bytes()
    (folder / "bundle.yaml").write_bytes(text.replace(b"libraries:", b"other_libraries:") + line + b"\n")

    assert reason in refusal(folder)


@pytest.mark.parametrize("name", ["../model.skops", "/etc/passwd", "a\\b", "a\0b", "..", " x", "x" * 4096])
def test_names_that_leave(folder: Path, name: str) -> None:
    """A file name that is no plain name is refused before anything is opened."""
    files = yaml.safe_load((folder / "bundle.yaml").read_bytes())["files"]
    bundles.rewrite(folder, model_file=name, files=files | {name: "0" * 64})

    assert "model_file: String should match pattern" in refusal(folder)


def test_link_that_leaves(folder: Path, tmp_path: Path) -> None:
    """A symbolic link out of the bundle is refused, one inside is not."""
    (folder / "profile.json").rename(tmp_path / "profile.json")
    (folder / "profile.json").symlink_to(tmp_path / "profile.json")
    assert refusal(folder) == "FOLDER/profile.json: points out of its bundle; copy the file into the folder"

    (folder / "profile.json").unlink()
    (tmp_path / "profile.json").rename(folder / "kept.json")
    (folder / "profile.json").symlink_to("kept.json")
    assert read_bundle(folder).schema.name == "m"


def test_pipe(folder: Path) -> None:
    """A named pipe in place of a file is refused at once instead of waited for."""
    (folder / "model.skops").unlink()
    os.mkfifo(folder / "model.skops")

    assert "FOLDER/model.skops: is missing" in refusal(folder)


def test_moved(folder: Path) -> None:
    """A bundle in a folder of another name is refused."""
    moved = folder.rename(folder.with_name("2"))

    assert refusal(moved) == "FOLDER: is m/1 by its bundle.yaml; move it into a folder of that name"


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"[" * 100_000, b'{"a": 1, "a": 2}', json.dumps({"baseline": [], "features": {}}).encode()],
)
def test_wrong_profile(folder: Path, content: bytes) -> None:
    """A profile that is none is refused."""
    bundles.pin(folder, "profile.json", content)

    assert re.fullmatch(
        r"FOLDER/profile.json: is not a bundle's profile( \(.+\))?; bundle the model again", refusal(folder)
    )


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"features": {"a": []}}, "features.a: "),
        ({"features": {"a": {"edges": [1.0, 1.0]}}}, "features.a: edges do not ascend"),
        ({"features": {"a": {"edges": [1.0, "2"]}}}, "features.a.edges.1: "),
        ({"features": {"a": {"mean": math.nan}}}, "features.a.mean: "),
        ({"prediction": 7}, "prediction: "),
        ({"baseline": {"accuracy": "good"}}, "baseline.accuracy: "),
        ({"rows": 0}, "rows: "),
        ({"rows": 10**30}, "Integer exceeds 64-bit range"),
        ({"created_at": "\ud800"}, "str is not valid UTF-8"),
        ({"qualification": {"rows": 0, "features": {"a": {"inflation": 2.0, "blocks": 9}}}}, "qualification: "),
    ],
    ids=str,
)
def test_damaged_profile(folder: Path, changes: dict[str, Any], finding: str) -> None:
    """A profile with a value that metrics, answers or checks would stumble over is refused by its name."""
    profile = json.loads((folder / "profile.json").read_bytes())
    bundles.pin(folder, "profile.json", json.dumps(profile | changes).encode())

    assert refusal(folder).startswith(f"FOLDER/profile.json: is not a bundle's profile ({finding}")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x0", lambda array: array.astype("U8")),
        ("x0", lambda array: array.astype(np.float32)),
        ("x1", lambda array: array[:-1]),
        ("x1", lambda array: array.reshape(-1, 1)),
        ("x2", lambda array: np.full_like(array, np.inf)),
        ("prediction", lambda array: np.full_like(array, 2)),
        ("prediction", lambda array: np.full_like(array, -1)),
        ("outcomes", lambda array: array.astype(np.float64)),
        ("probabilities", lambda array: array[:, :1]),
        ("probabilities", lambda array: array[0, 0]),
    ],
)
def test_damaged_reference(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """An array of another type, shape, length or code than its column refuses the bundle before a check reads it."""
    with np.load(folder / "reference.npz") as stored:
        arrays = dict(stored)
    written = io.BytesIO()
    np.savez(written, **(arrays | {name: change(arrays[name])}))
    bundles.pin(folder, "reference.npz", written.getvalue())

    assert re.fullmatch(
        rf"FOLDER/reference.npz: does not fit the schema in bundle.yaml \({name}\); bundle the model again",
        refusal(folder),
    )


@pytest.mark.parametrize("value", ['"\\ud800"', "1" * 30])
def test_what_no_answer_can_hold(folder: Path, value: str) -> None:
    """A manifest with half a character or a number of more than 64 bits is refused: `/models` could not show it."""
    text = (folder / "bundle.yaml").read_text()
    (folder / "bundle.yaml").write_text(text.replace("libraries:\n", f"libraries:\n  other: {value}\n"))

    assert refusal(folder).startswith("FOLDER/bundle.yaml: holds what no answer can: ")


def test_versions(tmp_path: Path) -> None:
    """Versions are found in their natural order, and folders that are no bundles are not."""
    for version in ("10", "9", "1.10", "1.9", "v2", ".hidden", "not a version"):
        (tmp_path / "m" / version).mkdir(parents=True)
        (tmp_path / "m" / version / "bundle.yaml").touch()
    (tmp_path / "m" / "empty").mkdir()

    assert find_versions(tmp_path, "m") == ["1.9", "1.10", "9", "10", "v2"]
    assert find_versions(tmp_path, "other") == []


@pytest.mark.parametrize("name", ["..", ".", "../m", " ..", "m\\..", "m\0", "m\n", "", "m/1", "%2e%2e", "m" * 65])
def test_model_names(tmp_path: Path, name: str) -> None:
    """A model's name that could leave the folder of bundles is refused."""
    with pytest.raises(BundleError, match="model name"):
        find_versions(tmp_path, name)
