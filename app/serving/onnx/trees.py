"""Fitted trees, and their sum as one ``TreeEnsemble`` node: float64, with missing values and sets of categories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving.onnx.graph import ML, Graph, tensor

_AT_MOST, _MEMBER = 0, 6
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
    """The attributes of a tree's inner nodes, counted from ``nodes``, and its leaves from ``leaves``."""
    places = np.where(tree.leaf, leaves + np.cumsum(tree.leaf), nodes + np.cumsum(~tree.leaf)) - 1
    inner = np.flatnonzero(~tree.leaf)
    left, right = tree.left[inner], tree.right[inner]
    if not len(inner):  # a lone leaf: a node of which both branches lead to it
        inner, left, right = np.zeros((3, 1), dtype=np.int64)
    by_set = np.array([bool(tree.members[place]) for place in inner.tolist()])
    return {
        "nodes_featureids": np.maximum(tree.feature[inner], 0),
        "nodes_splits": np.where(by_set, 0.0, tree.threshold[inner]),
        "nodes_modes": np.where(by_set, _MEMBER, _AT_MOST).astype(np.uint8),
        "nodes_truenodeids": places[left],
        "nodes_trueleafs": tree.leaf[left].astype(np.int64),
        "nodes_falsenodeids": places[right],
        "nodes_falseleafs": tree.leaf[right].astype(np.int64),
        "nodes_missing_value_tracks_true": tree.missing_left[inner],
    }
