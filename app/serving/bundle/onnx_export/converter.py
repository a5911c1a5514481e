"""From a fitted scikit-learn model to an ONNX graph in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from app.serving.bundle.onnx_export.graph import KNOWN_OPERATORS, ML, OPERATORS
from app.serving.bundle.onnx_export.preprocessing import convert_encoder, convert_imputer, encoder_shape, imputer_shape
from app.serving.bundle.onnx_export.trees import convert_boosting, convert_forest, convert_hist_boosting, ensemble_shape
from app.types import Feature, FeatureType, ModelSchema

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
