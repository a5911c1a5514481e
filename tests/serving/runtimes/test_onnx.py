"""An ONNX file is served as it is, if it is whole, by itself, and answers its data; each refusal is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from app.bundling import build_bundle
from app.errors import BundleError
from app.serving.bundle.reader import read_bundle
from app.serving.runtimes.onnx import check_self_contained
from app.types import Task
from tests.support.deadlines import DEADLINE_S
from tests.support.models import bundles
from tests.support.processes import ROOT

OPSET = 21


def exported(model: Any, frame: pd.DataFrame, **options: Any) -> bytes:
    """A model fitted on the frame's features, as skl2onnx exports it: in float32, by default with a ZipMap."""
    fitted = model.fit(frame.drop(columns="y").to_numpy(), frame["y"])
    inputs = [("X", FloatTensorType([None, frame.shape[1] - 1]))]
    content: bytes = to_onnx(fitted, initial_types=inputs, target_opset=OPSET, **options).SerializeToString()
    return content


def graph(nodes: list[Any], inputs: Mapping[str, int], output: tuple[str, int, list[Any]], shape: list[Any]) -> Any:
    """A small model; ``inputs`` by name with their element type."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info(name, kind, shape) for name, kind in inputs.items()],
            [helper.make_tensor_value_info(*output)],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
    )


def summed(**inputs: int) -> bytes:
    """A regression that adds up its inputs, each of shape (n, 1)."""
    casts = [helper.make_node("Cast", [name], [f"{name}_"], to=TensorProto.FLOAT) for name in inputs]
    total = helper.make_node("Sum", [f"{name}_" for name in inputs], ["total"])
    made = graph([*casts, total], inputs, ("total", TensorProto.FLOAT, [None, 1]), [None, 1])
    content: bytes = made.SerializeToString()
    return content


def refusal(act: Callable[[], object]) -> str:
    """The line with which something is refused."""
    with pytest.raises(BundleError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("options", [{}, {"options": {"zipmap": False}}], ids=["mapping", "table"])
@pytest.mark.parametrize("labels", [("no", "yes"), (0, 1), ("a", "b", "c")], ids=str)
def test_classification(labels: tuple[Any, ...], options: dict[str, Any], tmp_path: Path) -> None:
    """A classifier's labels and probabilities are served with the classes of its target, without scikit-learn."""
    frame = bundles.numbers(labels)
    model = LogisticRegression()
    content, holdout = exported(model, frame, **options), bundles.unseen(frame)
    folder = build_bundle(content, data=frame, holdout=holdout, target="y", name="m", models=tmp_path)

    bundle = read_bundle(folder)
    rows = frame[["a", "b", "c"]].to_numpy()
    answers = bundle.estimator.predict(rows.tolist())
    assert (bundle.format, bundle.input, bundle.runtime, bundle.schema.classes) == ("onnx", "array", "onnx", labels)
    assert model.predict(rows).tolist() == [answer.prediction for answer in answers]
    assert np.abs(bundles.told(answers) - model.predict_proba(rows)).max() < 1e-5
    assert bundle.baseline["accuracy"] > 0.8


def test_regression(tmp_path: Path) -> None:
    """One float for each row is a regression."""
    frame = bundles.numbers((1.0, 2.0, 3.0))
    model = LinearRegression()
    folder = build_bundle(exported(model, frame), data=frame, target="y", name="m", models=tmp_path)

    bundle = read_bundle(folder)
    rows = frame[["a", "b", "c"]].to_numpy()
    assert (bundle.schema.task, bundle.schema.classes) == (Task.REGRESSION, ())
    answers = [answer.prediction for answer in bundle.estimator.predict(rows.tolist())]
    assert np.allclose(answers, model.predict(rows), rtol=1e-5)


def test_named_inputs(tmp_path: Path) -> None:
    """Inputs of every type are filled by the columns of their names, whatever the data's order."""
    frame = bundles.mixed()
    frame["income"] = frame["income"].fillna(0)
    frame["y"] = frame["age"] + frame["income"] + frame["member"] + (frame["channel"] == "web")
    kinds = {
        "member": TensorProto.BOOL,
        "age": TensorProto.INT64,
        "income": TensorProto.DOUBLE,
        "channel": TensorProto.STRING,
    }
    web = TensorProto(name="web", data_type=TensorProto.STRING, dims=[1], string_data=[b"web"])
    nodes = [
        helper.make_node("Constant", [], ["web"], value=web),
        helper.make_node("Equal", ["channel", "web"], ["is_web"]),
        *[
            helper.make_node("Cast", [name], [f"{name}_"], to=TensorProto.DOUBLE)
            for name in ("member", "age", "is_web")
        ],
        helper.make_node("Sum", ["member_", "age_", "income", "is_web_"], ["total"]),
    ]
    data = graph(nodes, kinds, ("total", TensorProto.DOUBLE, [None, 1]), [None, 1]).SerializeToString()

    folder = build_bundle(data, data=frame, target="y", name="m", models=tmp_path)

    bundle = read_bundle(folder)
    rows = list(frame[list(kinds)].astype(object).itertuples(index=False, name=None))
    assert (bundle.input, bundle.schema.feature_names) == ("dataframe", tuple(kinds))
    assert frame["y"].tolist() == [answer.prediction for answer in bundle.estimator.predict(rows)]
    with pytest.raises(ValueError, match="no missing text"):
        bundle.estimator.predict([(True, 40, 1.0, None)])


def test_probabilities_alone(tmp_path: Path) -> None:
    """A graph that gives probabilities without a label, as networks do, answers with the likeliest class."""
    frame = bundles.numbers(("a", "b", "c"))
    model = onnx.load_from_string(exported(LogisticRegression(), frame, options={"zipmap": False}))
    del model.graph.output[0]
    folder = build_bundle(model.SerializeToString(), data=frame, target="y", name="m", models=tmp_path)

    answers = read_bundle(folder).estimator.predict(frame[["a", "b", "c"]].to_numpy().tolist())
    likeliest = bundles.told(answers).argmax(axis=1)
    assert ["abc"[place] for place in likeliest] == [answer.prediction for answer in answers]


def test_threshold(tmp_path: Path) -> None:
    """A threshold decides instead of the graph."""
    frame = bundles.numbers()
    data = exported(LogisticRegression(), frame)
    folder = build_bundle(data, data=frame, target="y", name="m", models=tmp_path, positive="no", threshold=0.9)

    answers = read_bundle(folder).estimator.predict(frame[["a", "b", "c"]].to_numpy().tolist())
    assert ["no" if share >= 0.9 else "yes" for share in bundles.told(answers)[:, 0]] == [
        answer.prediction for answer in answers
    ]


def test_missing_values(tmp_path: Path) -> None:
    """Null is allowed only where the graph has an answer to it, and a fraction is never cut off."""
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "b": [0.5, 1.5, 2.5, 3.5]})
    frame["y"] = frame["a"] + frame["b"]
    data = summed(a=TensorProto.INT64, b=TensorProto.FLOAT)
    estimator = read_bundle(build_bundle(data, data=frame, target="y", name="m", models=tmp_path)).estimator

    assert [answer.prediction for answer in estimator.predict([(1, 0.5), (2, 2.0)])] == [1.5, 4.0]
    with pytest.raises(ValueError, match="whole numbers"):
        estimator.predict([(1.5, 0.5)])
    with pytest.raises(ValueError, match="no answer"):
        estimator.predict([(1, None)])
    gaps = frame.assign(b=[np.nan, 1.5, 2.5, 3.5])
    line = refusal(lambda: build_bundle(data, data=gaps, target="y", name="n", models=tmp_path))
    assert line.startswith("the model fails on the data: NoAnswer: the model has no answer to a row")


def test_nulls_that_the_graph_takes(tmp_path: Path) -> None:
    """A graph with an answer to a missing number is sent one."""
    frame = bundles.numbers()
    frame.loc[::7, "a"] = np.nan
    inputs = frame.fillna({"a": 0.0})
    model = onnx.load_from_string(exported(DecisionTreeClassifier(max_depth=3), inputs))
    data = model.SerializeToString()

    bundle = read_bundle(build_bundle(data, data=frame, target="y", name="m", models=tmp_path))

    assert [feature.nullable for feature in bundle.schema.features] == [True, False, False]


NUMBERS = bundles.numbers()


@pytest.mark.parametrize(
    ("data", "frame", "line"),
    [
        (b"", NUMBERS, "model.onnx: is not a whole ONNX model; export it again"),
        (b"PK\x03\x04", NUMBERS, "model.onnx: is not a whole ONNX model; export it again"),
        (exported(LogisticRegression(), NUMBERS)[:-40], NUMBERS, "model.onnx: is not a whole ONNX model"),
        (exported(LogisticRegression(), NUMBERS), NUMBERS.drop(columns="b"), "model.onnx: takes 3 features, 2 are"),
        (exported(LogisticRegression(), NUMBERS), NUMBERS.assign(a="x"), "the model fails on the data: ValueError"),
        (exported(LogisticRegression(), NUMBERS), bundles.numbers((0, 1)), "the model fails on the data: KeyError"),
        (exported(LogisticRegression(), NUMBERS), bundles.numbers(("a", "b", "c")), "the model fails on the data"),
        (
            exported(LogisticRegression(), NUMBERS, options={"zipmap": False}),
            bundles.numbers(("a", "b", "c")),
            "model.onnx: output probabilities has 2 columns, 3 are expected",
        ),
        (summed(a=1, b=1, z=1), NUMBERS, "the data lacks columns that the model takes: 'z'"),
        (summed(a=TensorProto.COMPLEX64, b=1), NUMBERS, "model.onnx: onnxruntime cannot load it"),
    ],
    ids=["empty", "zip", "truncated", "width", "text", "labels", "more labels", "more columns", "absent", "operator"],
)  # fmt: skip
def test_refused(data: bytes, frame: pd.DataFrame, line: str, tmp_path: Path) -> None:
    """A file that is damaged, or does not fit its data, is refused in one line, and nothing is written."""
    found = refusal(lambda: build_bundle(data, data=frame, target="y", name="m", models=tmp_path))

    assert found.startswith(line)
    assert not list(tmp_path.rglob("bundle.yaml"))


def test_other_order_of_classes(tmp_path: Path) -> None:
    """Probabilities in another order than the classes' are found out."""
    frame = bundles.numbers(("a", "b", "c"))
    model = onnx.load_from_string(exported(LogisticRegression(), frame, options={"zipmap": False}))
    model.graph.output[1].name = "turned"
    places = numpy_helper.from_array(np.array([2, 0, 1]), "places")
    model.graph.initializer.append(places)
    model.graph.node.append(helper.make_node("Gather", ["probabilities", "places"], ["turned"], axis=1))

    line = refusal(lambda: build_bundle(model.SerializeToString(), data=frame, target="y", name="m", models=tmp_path))

    assert line == (
        "its probabilities are not in the order of the classes a, b, c, but of c, a, b: in 240 of 240 rows its label "
        "is not the likeliest class; put them into that order"
    )


@pytest.mark.parametrize("rare", [False, True])
def test_other_order_without_a_label(tmp_path: Path, rare: bool) -> None:
    """Without a label, probabilities that fit the truth far better in another order are refused with that order."""
    frame = bundles.numbers(("a", "b", "c"))
    model = onnx.load_from_string(exported(LogisticRegression(), frame, options={"zipmap": False}))
    places = numpy_helper.from_array(np.array([0, 2, 1]), "places")
    model.graph.initializer.append(places)
    model.graph.node.append(helper.make_node("Gather", ["probabilities", "places"], ["turned"], axis=1))
    model.graph.output[1].name = "turned"
    del model.graph.output[0]
    data = pd.concat([frame, *[frame[frame["y"] == "a"]] * 20]) if rare else frame

    line = refusal(lambda: build_bundle(model.SerializeToString(), data=data, target="y", name="m", models=tmp_path))

    assert line.startswith("its probabilities fit the truth in the order a, c, b (accuracy 0.")
    assert "not in that of the classes a, b, c (accuracy 0." in line


def test_rare_classes_in_another_order(tmp_path: Path) -> None:
    """Two rare classes whose probabilities are swapped are found, though nearly all rows agree with their label."""
    frame = bundles.numbers(("a", "b", "c"))
    model = onnx.load_from_string(exported(LogisticRegression(), frame, options={"zipmap": False}))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 1]), "places"))
    model.graph.node.append(helper.make_node("Gather", ["probabilities", "places"], ["turned"], axis=1))
    model.graph.output[1].name = "turned"
    data = pd.concat([frame, *[frame[frame["y"] == "a"]] * 20])

    line = refusal(lambda: build_bundle(model.SerializeToString(), data=data, target="y", name="m", models=tmp_path))

    assert "not in the order of the classes a, b, c, but of a, c, b: in " in line


def test_two_classes_divided_elsewhere(tmp_path: Path) -> None:
    """A label of two that is decided at another probability than one half is the model's own rule, and no disorder."""
    frame = bundles.numbers()
    model = onnx.load_from_string(exported(LogisticRegression(), frame, options={"zipmap": False}))
    for name, value in (("eighty", np.array([0.8], np.float32)), ("second", np.array([1])), ("flat", np.array([-1]))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.initializer.append(numpy_helper.from_array(np.array(["no", "yes"], dtype=object), "names"))
    model.graph.node.extend(
        [
            helper.make_node("Gather", ["probabilities", "second"], ["share"], axis=1),
            helper.make_node("Less", ["share", "eighty"], ["below"]),
            helper.make_node("Not", ["below"], ["above"]),
            helper.make_node("Cast", ["above"], ["place"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["place", "flat"], ["line"]),
            helper.make_node("Gather", ["names", "line"], ["decided"]),
        ]
    )
    model.graph.output[0].name = "decided"

    folder = build_bundle(model.SerializeToString(), data=frame, target="y", name="m", models=tmp_path)

    answers = read_bundle(folder).estimator.predict(frame[["a", "b", "c"]].to_numpy().tolist())
    assert {each.prediction for each in answers if each.probabilities and 0.5 < each.probabilities[1] < 0.8} == {"no"}


def test_fixed_batch(tmp_path: Path) -> None:
    """A graph for a fixed number of rows cannot be batched, and says so."""
    fixed = graph(
        [helper.make_node("Add", ["a", "b"], ["total"])],
        {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT},
        ("total", TensorProto.FLOAT, [1, 1]),
        [1, 1],
    ).SerializeToString()

    line = refusal(lambda: build_bundle(fixed, data=NUMBERS, target="y", name="m", models=tmp_path))

    assert line == "model.onnx: input a has a fixed number of rows; export it with a variable one"


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
