"""Convert trees and their ensembles to ONNX in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving.bundle.onnx_export.graph import DOUBLE, FLOAT, ML, Graph, look_up, tensor

_BRANCH_LEQ_MODE, _MEMBER = 0, 6
"""What sends a row down a node's true branch: a value up to the node's split, or one in the node's set."""
_ADD_UP = 1


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree: an entry for each node, the root first.

    Attributes:
        left, right: places of a node's children; the left one is for values up to the threshold, or in ``members``.
        missing_left: whether a missing value goes left.
        leaf: whether a node is a leaf.
        values: what a leaf adds, shape (nodes, columns).
        members: the categories that a node sends left; none where the threshold decides.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    missing_left: NDArray[np.int64]
    leaf: NDArray[np.bool_]
    values: NDArray[np.float64]
    members: Sequence[Sequence[float]]


def plain_tree(fitted: Any) -> Tree:
    """A tree of scikit-learn's trees, forests and GradientBoosting."""
    if fitted.value.shape[1] != 1:
        raise NotImplementedError("several answers for a row")
    leaf = fitted.children_left == fitted.children_right
    return Tree(
        fitted.feature.astype(np.int64),
        fitted.threshold.astype(np.float64),
        fitted.children_left.astype(np.int64),
        fitted.children_right.astype(np.int64),
        fitted.missing_go_to_left.astype(np.int64),
        leaf,
        fitted.value[:, 0, :].astype(np.float64),
        [()] * len(leaf),
    )


def hist_tree(fitted: Any) -> Tree:
    """A tree of HistGradientBoosting."""
    nodes = fitted.nodes
    leaf = nodes["is_leaf"].astype(bool)
    members: list[Sequence[float]] = [()] * len(leaf)
    for place in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf).tolist():
        words = fitted.raw_left_cat_bitsets[nodes["bitset_idx"][place]]
        bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
        members[place] = np.flatnonzero(bits).astype(np.float64).tolist()
    return Tree(
        nodes["feature_idx"].astype(np.int64),
        nodes["num_threshold"].astype(np.float64),
        nodes["left"].astype(np.int64),
        nodes["right"].astype(np.int64),
        nodes["missing_go_to_left"].astype(np.int64),
        leaf,
        nodes["value"].astype(np.float64)[:, None],
        members,
    )


def add_up(graph: Graph, rows: str, trees: Sequence[tuple[Tree, int, int]], targets: int) -> str:
    """Add the sum of trees and give its name; its shape is (n, targets).

    Args:
        rows: name of the rows, float64 of shape (n, features).
        trees: each with the target that it adds to and the column of its values.
    """
    branches: dict[str, list[NDArray[Any]]] = {}
    leaf_targets, weights = [], []
    roots, nodes, leaves = [], 0, 0
    members: list[float] = []
    for tree, target, column in trees:
        roots.append(nodes)
        for name, values in _branches(tree, nodes, leaves).items():
            branches.setdefault(name, []).append(values)
        weights.append(tree.values[tree.leaf, column])
        leaf_targets.append(np.full(len(weights[-1]), target))
        members += [value for kept in tree.members if kept for value in (*kept, np.nan)]
        nodes += len(branches["nodes_modes"][-1])
        leaves += len(weights[-1])
    attributes = {name: np.concatenate(values) for name, values in branches.items()}
    if members:
        attributes["membership_values"] = np.array(members)
    as_tensor = {"nodes_modes", "nodes_splits", "membership_values"}
    return graph.add(
        "TreeEnsemble",
        rows,
        domain=ML,
        n_targets=targets,
        aggregate_function=_ADD_UP,
        post_transform=0,
        tree_roots=roots,
        leaf_targetids=np.concatenate(leaf_targets).tolist(),
        leaf_weights=tensor(np.concatenate(weights)),
        **{name: tensor(values) if name in as_tensor else values.tolist() for name, values in attributes.items()},
    )


def _branches(tree: Tree, nodes: int, leaves: int) -> dict[str, NDArray[Any]]:
    """Give the attributes of a tree's nodes.

    Inner nodes count from ``nodes``, leaves from ``leaves``.
    """
    places = np.where(tree.leaf, leaves + np.cumsum(tree.leaf), nodes + np.cumsum(~tree.leaf)) - 1
    inner = np.flatnonzero(~tree.leaf)
    left, right = tree.left[inner], tree.right[inner]
    if not len(inner):  # a lone leaf: a node of which both branches lead to it
        inner, left, right = np.zeros((3, 1), dtype=np.int64)
    by_set = np.array([bool(tree.members[place]) for place in inner.tolist()])
    return {
        "nodes_featureids": np.maximum(tree.feature[inner], 0),
        "nodes_splits": np.where(by_set, 0.0, tree.threshold[inner]),
        "nodes_modes": np.where(by_set, _MEMBER, _BRANCH_LEQ_MODE).astype(np.uint8),
        "nodes_truenodeids": places[left],
        "nodes_trueleafs": tree.leaf[left].astype(np.int64),
        "nodes_falsenodeids": places[right],
        "nodes_falseleafs": tree.leaf[right].astype(np.int64),
        "nodes_missing_value_tracks_true": tree.missing_left[inner],
    }


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
    """Write a GradientBoosting model.

    Its score is the start plus the learning rate times the sum of its trees, passed through the link.
    """
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
    """Write a HistGradientBoosting model.

    Its score is the start plus the sum of its trees over encoded categories, passed through the link.
    """
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
    """Encode the rows as the model's own preprocessor does.

    Categories come first, as codes; an unseen category is missing.
    """
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
