"""From a fitted scikit-learn model to an ONNX graph that may serve in its place."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from app.errors import one_line
from app.serving.bundle.answers import odd_values
from app.serving.bundle.manifest import OnnxEntry
from app.serving.bundle.onnx_export.graph import (
    KNOWN_OPERATORS,
    ML,
    OPERATORS,
    convert_encoder,
    convert_imputer,
    encoder_shape,
    imputer_shape,
)
from app.serving.bundle.onnx_export.trees import convert_boosting, convert_forest, convert_hist_boosting, ensemble_shape
from app.serving.runtimes.base import Runtime
from app.serving.runtimes.onnx import MISSING_TEXT, TOLERANCE, OnnxModel, open_session
from app.types import Answer, Feature, FeatureType, ModelSchema, Row

MATRIX = "features"
"""The name of the one input of a graph that takes all features together."""
Converter: TypeAlias = Callable[[Any, Any, Any], None]
Shape: TypeAlias = Callable[[Any], None]


def convert(model: Any, schema: ModelSchema, *, layout: str, dtypes: Mapping[str, str]) -> bytes:
    """Convert a model to an ONNX file that answers as the model does.

    Its input is one float64 tensor, or one input for each feature, by its name.

    Args:
        model: a fitted classifier or regressor; it is not changed.
        layout, dtypes: how the model is given its rows, as in :class:`app.serving.runtimes.sklearn.Estimator`.

    Raises:
        Exception: of any kind, where a part of the model cannot be written in ONNX.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType

    inputs = [(MATRIX, DoubleTensorType([None, len(schema.features)]))]
    if layout == "dataframe":
        inputs = [(feature.name, _input(feature, dtypes.get(feature.name, ""))) for feature in schema.features]
    own = _own_converters()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = convert_sklearn(
            model,
            name=schema.name,
            initial_types=inputs,
            options={id(model): {"zipmap": False}} if schema.classes else None,
            target_opset=KNOWN_OPERATORS,
            custom_conversion_functions={kind: converter for kind, (converter, _) in own.items()},
            custom_shape_calculators={kind: shape for kind, (_, shape) in own.items()},
        )
    _rename(made.graph, [name for name, _ in inputs])
    for output in made.graph.output:
        output.ClearField("type")  # skl2onnx guesses it before the types are known; onnxruntime finds the true one
    for used in made.opset_import:
        used.version = OPERATORS[ML] if used.domain == ML else used.version
    if schema.classes and not hasattr(model, "predict_proba"):
        del made.graph.output[1]  # scores that are no probabilities
    content: bytes = made.SerializeToString()
    return content


def _rename(graph: Any, names: Sequence[str]) -> None:
    """Rename the inputs to their features' names, which skl2onnx changes.

    A variable inside the graph that has such a name gets another one.
    """
    renamed = {name: f"inner {name}" for name in names}
    renamed |= {taken.name: name for taken, name in zip(graph.input, names, strict=True)}
    for named in (*graph.input, *graph.output, *graph.initializer):
        named.name = renamed.get(named.name, named.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]


def _input(feature: Feature, dtype: str) -> Any:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    text = feature.type is FeatureType.CATEGORICAL and not all(isinstance(value, int) for value in feature.categories)
    kind = StringTensorType if text else FloatTensorType if dtype == "float32" else DoubleTensorType
    return kind([None, 1])


def _own_converters() -> dict[type, tuple[Converter, Shape]]:
    """List our converters for what skl2onnx writes wrongly or only in float32.

    They are passed to this one conversion.
    """
    from sklearn import ensemble, impute, preprocessing, tree

    trees = (tree.DecisionTreeClassifier, tree.DecisionTreeRegressor, tree.ExtraTreeClassifier, tree.ExtraTreeRegressor)
    forests = (ensemble.RandomForestClassifier, ensemble.RandomForestRegressor)
    extra = (ensemble.ExtraTreesClassifier, ensemble.ExtraTreesRegressor)
    boosting = (ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor)
    hist = (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)
    return {
        **dict.fromkeys((*trees, *forests, *extra), (convert_forest, ensemble_shape)),
        **dict.fromkeys(boosting, (convert_boosting, ensemble_shape)),
        **dict.fromkeys(hist, (convert_hist_boosting, ensemble_shape)),
        **dict.fromkeys((preprocessing.OneHotEncoder, preprocessing.OrdinalEncoder), (convert_encoder, encoder_shape)),
        impute.SimpleImputer: (convert_imputer, imputer_shape),
    }


FILE = "model.onnx"
PROBES = 8
"""Rows of the reference that are answered once more with each odd value."""
TIMED_ROWS = 64
SLOWER = 2.0
"""How many times as long a call may take: less is noise."""
TRIES = 5
"""Calls of each, by turns, so that a busy machine slows both; the fastest one counts."""


class Refused(Exception):
    """The graph does not replace the model; the text says why."""


def adopt(
    model: Any, served: Runtime, rows: Sequence[Row], *, layout: str, dtypes: Mapping[str, str]
) -> tuple[bytes | None, OnnxEntry]:
    """Convert a model, compare the answers, and give the ONNX file where it may serve.

    The second result says what became of it.

    Args:
        model: the fitted scikit-learn model; it is not changed.
        served: the same as scikit-learn serves it.
        rows: the whole reference.
        layout, dtypes: how the model is given its rows.
    """
    schema = served.schema
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = convert(model, schema, layout=layout, dtypes=dtypes)
            graph = OnnxModel(open_session(data, FILE), schema, missing_text=MISSING_TEXT, what=FILE)
        except Exception as error:  # noqa: BLE001 - a converter can raise anything
            return None, OnnxEntry(reason=f"it cannot be written in ONNX: {type(error).__name__}: {one_line(error)}")
        try:
            count, difference = _compare(served, graph, rows)
            _check_speed(served, graph, rows)
        except Refused as refusal:
            return None, OnnxEntry(reason=str(refusal))
    return data, OnnxEntry(file=FILE, rows=count, difference=difference)


def _compare(served: Runtime, graph: Runtime, rows: Sequence[Row]) -> tuple[int, float]:
    """Compare both on the reference and its variations.

    The result is the number of rows and the largest difference.
    """
    count, largest = 0, 0.0
    for what, part in [("the reference", rows), *_variations(served.schema, rows)]:
        expected, found = _answers(served, part), _answers(graph, part)
        if (expected is None) != (found is None):
            silent = "scikit-learn" if expected is None else "ONNX"
            raise Refused(f"{silent} has no answer to {what}, the other has")
        if expected is not None and found is not None:
            count += len(part)
            largest = max(largest, _difference(expected, found, what))
    return count, largest


def _variations(schema: ModelSchema, rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows of the reference with one odd value each, of every kind that a request may carry."""
    chosen = [rows[place] for place in np.linspace(0, len(rows) - 1, min(PROBES, len(rows))).astype(int).tolist()]
    for place, feature in enumerate(schema.features):
        for kind, value in odd_values(feature).items():
            yield f"{kind} in {feature.name}", [[*row[:place], value, *row[place + 1 :]] for row in chosen]


def _answers(runtime: Runtime, rows: Sequence[Row]) -> list[Answer] | None:
    try:
        return runtime.predict(rows)
    except Exception:  # noqa: BLE001 - a model can raise anything, and that is the answer
        return None


def _difference(expected: Sequence[Answer], found: Sequence[Answer], what: str) -> float:
    """The largest difference of two lists of answers; Refused where it counts."""
    if isinstance(expected[0].prediction, float) and expected[0].probabilities is None:
        one, other = (np.array([answer.prediction for answer in answers], dtype=float) for answers in (expected, found))
        scale = np.maximum(np.abs(one), np.abs(one).max() * TOLERANCE)
        difference = float(np.max(np.abs(one - other) / np.where(scale == 0, 1.0, scale)))
        name = "numbers"
    else:
        wrong = sum(one.prediction != other.prediction for one, other in zip(expected, found, strict=True))
        if wrong:
            raise Refused(f"{wrong} of {len(expected)} labels differ on {what}")
        shares = [np.array([answer.probabilities or () for answer in answers]) for answers in (expected, found)]
        difference = float(np.abs(shares[0] - shares[1]).max(initial=0.0))
        name = "probabilities"
    if not difference <= TOLERANCE:
        raise Refused(f"{name} differ by up to {difference:.1e} on {what}")
    return difference


def _check_speed(served: Runtime, graph: Runtime, rows: Sequence[Row]) -> None:
    tries = [(_seconds(graph, rows[:TIMED_ROWS]), _seconds(served, rows[:TIMED_ROWS])) for _ in range(TRIES)]
    ours, theirs = (min(seconds) for seconds in zip(*tries, strict=True))
    if ours > SLOWER * theirs:
        raise Refused(f"it takes {ours * 1000:.1f} ms for {TIMED_ROWS} rows, scikit-learn {theirs * 1000:.1f} ms")


def _seconds(runtime: Runtime, rows: Sequence[Row]) -> float:
    """Processor time of a call, which another program on the machine does not lengthen."""
    started = time.process_time()
    runtime.predict(rows)
    return time.process_time() - started
