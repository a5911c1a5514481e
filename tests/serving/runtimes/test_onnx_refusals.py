"""ONNX files that do not fit their data, or the order of the classes: each is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from app.bundling import build_bundle
from app.serving.bundle.reader import read_bundle
from tests.support.models import bundles
from tests.support.models.onnx_graphs import exported, graph, refusal, summed

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
