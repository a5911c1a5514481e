"""The ONNX file in a bundle: it is whole and by itself, it is chosen where it may be, and it brings little along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from app.bundling import build_bundle
from app.errors import BundleError
from app.serving.bundle.reader import read_bundle
from app.serving.runtimes.onnx import check_self_contained
from tests.support.deadlines import DEADLINE_S
from tests.support.models import bundles
from tests.support.models.onnx_graphs import exported, graph, refusal, summed
from tests.support.processes import ROOT

NUMBERS = bundles.numbers()


def external(location: str, *, place: str) -> bytes:
    """A model with a tensor in another file: an initializer, an attribute, or inside the branch of an If."""
    away = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    away.external_data.add(key="location", value=location)
    add = helper.make_node("Add", ["a", "w"], ["y"])
    inside = helper.make_node("Constant", [], ["w"], value=away)
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    nodes = {"initializer": [add], "attribute": [inside, add]}.get(place, [])
    if place == "branch":
        branch = helper.make_graph([inside, add], "branch", [], [info])
        yes = helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True)))
        nodes = [yes, helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)]
    made = graph(nodes, {"a": TensorProto.FLOAT}, ("y", TensorProto.FLOAT, [None, 1]), [None, 1])
    if place == "initializer":
        made.graph.initializer.append(away)
    content: bytes = made.SerializeToString()
    return content


@pytest.mark.parametrize("location", ["../../etc/passwd", "weights.bin", "*/_ORT_MEM_ADDR_/*"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "branch"])
def test_external_data(location: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor kept in another file is refused before that file could be opened, wherever the tensor hides."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(4))

    line = refusal(lambda: check_self_contained(external(location, place=place), "model.onnx"))

    assert line.startswith("model.onnx: keeps tensors in other files; save it as one file")


def test_every_truncation_is_found() -> None:
    """Wherever a file is cut off, it is either refused or whole in itself: never a crash, never an endless loop."""
    data = summed(a=TensorProto.INT64, b=TensorProto.FLOAT)
    cut = 0
    for end in range(len(data)):
        try:
            check_self_contained(data[:end], "model.onnx")
        except BundleError:
            cut += 1

    assert cut > 0.9 * len(data)
    check_self_contained(data, "model.onnx")


def test_noise_is_refused_quietly() -> None:
    """Random changes never break the reader: it refuses or passes on."""
    rng = np.random.default_rng(5)
    data = np.frombuffer(external("x", place="branch"), dtype=np.uint8)
    for _ in range(300):
        changed = data.copy()
        changed[rng.integers(len(data), size=3)] = rng.integers(256, size=3)
        try:
            check_self_contained(changed.tobytes(), "model.onnx")
        except BundleError:
            continue


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A scikit-learn bundle with a graph that agrees."""
    model = LogisticRegression().fit(NUMBERS[["a", "b", "c"]], NUMBERS["y"])
    return build_bundle(model, data=NUMBERS, target="y", name="m", models=tmp_path / "models")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (lambda data: data[:-30], "is not a whole ONNX model; export it again"),
        (lambda data: b"\x00" * len(data), "is not a whole ONNX model; export it again"),
        (lambda _: exported(LogisticRegression(C=0.01), NUMBERS), "golden rows otherwise than when bundled"),
        (lambda _: external("../reference.npz", place="initializer"), "keeps tensors in other files"),
        (lambda _: summed(a=1, b=1, c=1), "output total has 1 columns, 2 are expected"),
    ],
    ids=["truncated", "zeros", "other answers", "external", "other task"],
)  # fmt: skip
def test_tampered(bundle: Path, content: Callable[[bytes], bytes], line: str) -> None:
    """A graph that was exchanged is refused in one line, even by someone who can pin its sha256 anew."""
    found = content((bundle / "model.onnx").read_bytes())
    (bundle / "model.onnx").write_bytes(found)
    assert "is damaged or was changed" in refusal(lambda: read_bundle(bundle))
    bundles.pin(bundle, "model.onnx", found)

    told = refusal(lambda: read_bundle(bundle))

    assert told.startswith(f"{bundle / 'model.onnx'}: ")
    assert line in told
    assert read_bundle(bundle, runtime="sklearn").runtime == "sklearn"


def test_choice(bundle: Path, tmp_path: Path) -> None:
    """ONNX serves where it can unless scikit-learn is asked for, which cannot run an ONNX file."""
    assert [read_bundle(bundle, runtime=wanted).runtime for wanted in ("auto", "onnx", "sklearn")] == [
        "onnx", "onnx", "sklearn",
    ]  # fmt: skip
    own = build_bundle(exported(LogisticRegression(), NUMBERS), data=NUMBERS, target="y", name="own", models=tmp_path)
    assert refusal(lambda: read_bundle(own, runtime="sklearn")).endswith(
        "is an ONNX model, which scikit-learn cannot run; set serving.runtime: auto"
    )
    bundles.rewrite(bundle, onnx=None)
    assert read_bundle(bundle).runtime == "sklearn"
    assert "it was bundled without one" in refusal(lambda: read_bundle(bundle, runtime="onnx"))


LOADED = """
import json, os, sys
from pathlib import Path
from app.config.loader import load_config
from app.main import create_app
import app.server.server
config = load_config(Path("config.yaml"), os.environ)
model = create_app(config).state.services.registry.active
model.bundle.estimator.predict(model.bundle.golden_rows)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_what_serve_loads(bundle: Path, tmp_path: Path) -> None:
    """A service that runs on ONNX imports neither scikit-learn nor pandas nor SciPy nor a converter to start."""
    settings = {"serving": {"models": str(bundle.parents[1]), "active": "m"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    run = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=True,
        timeout=DEADLINE_S,
    )

    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    assert "onnxruntime" in loaded
    assert loaded & {"sklearn", "skops", "joblib", "pandas", "scipy", "skl2onnx", "onnx"} == set()


def test_nothing_reports_home(bundle: Path, tmp_path: Path) -> None:
    """A served graph leaves nothing in the home directory: onnxruntime's own telemetry, on by default, is off."""
    home = tmp_path / "home"
    home.mkdir()
    # A variable of CI's would switch it off by itself.
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(ROOT)}
    serve = (
        "from pathlib import Path\nfrom app.serving.bundle.reader import read_bundle\n"
        f"read_bundle(Path({str(bundle)!r}))"
    )
    subprocess.run([sys.executable, "-c", serve], env=inherited | places, cwd=tmp_path, check=True, timeout=DEADLINE_S)

    assert [path for path in home.rglob("*") if path.is_file()] == []
