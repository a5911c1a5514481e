"""Trees, forests and boosting, written into the graph as float64.

skl2onnx writes an older operator for them, which answers in float32, forgets where missing values go and takes the
split of a categorical feature for a threshold; on HistGradientBoosting it fails, as it gives booleans for integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from app.serving.onnx.encoders import look_up
from app.serving.onnx.graph import DOUBLE, FLOAT, Graph
from app.serving.onnx.trees import Tree, add_up, hist_tree, plain_tree

_BINARY = 2
_INVERSE = {"IdentityLink": "Identity", "LogLink": "Exp", "LogitLink": "Sigmoid", "MultinomialLogit": "Softmax"}
"""The node that inverts each link of a loss."""


def convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """Write a decision tree or a forest: the mean of its trees."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    fitted = [plain_tree(member.tree_) for member in getattr(model, "estimators_", [model])]
    columns = [1] if len(getattr(model, "classes_", ())) == _BINARY else range(fitted[0].values.shape[1])
    trees = [(tree, target, column) for tree in fitted for target, column in enumerate(columns)]
    total = add_up(graph, _as_float32(graph), trees, len(columns))
    _answer(graph, model, graph.add("Div", total, graph.constant(np.array([float(len(fitted))]))))


def convert_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Write a GradientBoosting: its start, plus the learning rate times the sum of its trees, through the link."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    if model.init not in (None, "zero"):
        raise NotImplementedError("a GradientBoosting that starts from a model of its own")
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_)))  # noqa: SLF001 - it has no public name
    trees = [
        (plain_tree(member.tree_), target, 0) for stage in model.estimators_ for target, member in enumerate(stage)
    ]
    total = add_up(graph, _as_float32(graph), trees, model.estimators_.shape[1])
    scaled = graph.add("Mul", total, graph.constant(np.array([float(model.learning_rate)])))
    _answer(graph, model, _through_link(graph, model, scaled, start))


def convert_hist_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Write a HistGradientBoosting: its start plus the sum of its trees over encoded categories, through the link."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    stages = model._predictors  # noqa: SLF001 - the trees have no public name, nor has the start
    trees: list[tuple[Tree, int, int]] = [
        (hist_tree(fitted), target, 0) for stage in stages for target, fitted in enumerate(stage)
    ]
    total = add_up(graph, _encoded(graph, model), trees, model.n_trees_per_iteration_)
    _answer(graph, model, _through_link(graph, model, total, model._baseline_prediction))  # noqa: SLF001


def ensemble_shape(operator: Any) -> None:
    """Tell skl2onnx that an ensemble gives labels and probabilities, or one number, in float64."""
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType

    classes = getattr(operator.raw_operator, "classes_", None)
    if classes is None:
        operator.outputs[0].type = DoubleTensorType([None, 1])
        return
    if isinstance(classes, list):
        raise NotImplementedError("several answers for a row")
    operator.outputs[0].type = (StringTensorType if classes.dtype.kind in "OUT" else Int64TensorType)([None])
    operator.outputs[1].type = DoubleTensorType([None, len(classes)])


def _as_float32(graph: Graph) -> str:
    """The rows rounded as scikit-learn's trees round them before they compare."""
    return graph.add("Cast", graph.add("Cast", graph.matrix(), to=FLOAT), to=DOUBLE)


def _encoded(graph: Graph, model: Any) -> str:
    """The rows as the model's own preprocessor makes them: categories first, as codes, the unseen as missing."""
    if model.is_categorical_ is None:
        return graph.matrix()
    columns = list(zip(graph.columns(), model.is_categorical_.tolist(), strict=True))
    encoder = model._preprocessor.named_transformers_["encoder"]  # noqa: SLF001 - it has no public name
    parts = []
    for (column, text), categories in zip((each for each, coded in columns if coded), encoder.categories_, strict=True):
        codes = [np.nan if value is None or value != value else code for code, value in enumerate(categories)]  # noqa: PLR0124 - NaN
        parts.append(look_up(graph, column, text, categories, np.array([[*codes, np.nan]]).T))
    parts += [graph.add("Cast", column, to=DOUBLE) for (column, _), coded in columns if not coded]
    return graph.add("Concat", *parts, axis=1)


def _through_link(graph: Graph, model: Any, total: str, start: Any) -> str:
    link = type(model._loss.link).__name__  # noqa: SLF001 - it has no public name
    if link not in _INVERSE:
        raise NotImplementedError(f"a loss with {link}")
    raw = graph.add("Add", total, graph.constant(np.asarray(start, dtype=np.float64).ravel()))
    return graph.add(_INVERSE[link], raw)


def _answer(graph: Graph, model: Any, scores: str) -> None:
    """Write the outputs: one number, or the likeliest class and the probabilities of all."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        graph.add("Identity", scores, result=graph.outputs[0])
        return
    if len(classes) == _BINARY:
        scores = graph.add("Concat", graph.add("Sub", graph.constant(np.array([1.0])), scores), scores, axis=1)
    labels = classes.astype(object if classes.dtype.kind in "OUT" else np.int64)
    chosen = graph.add("ArgMax", scores, axis=1, keepdims=0)
    graph.add("Gather", graph.constant(labels), chosen, axis=0, result=graph.outputs[0])
    graph.add("Identity", scores, result=graph.outputs[1])
