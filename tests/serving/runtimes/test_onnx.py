"""An ONNX file is served as it is: what it answers is what its graph computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from app.bundling import build_bundle
from app.serving.bundle.reader import read_bundle
from app.types import Task
from tests.support.models import bundles
from tests.support.models.onnx_graphs import exported, graph, refusal, summed


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
