"""Parts of an ONNX graph: nodes, constants, and lookups for encoders and imputers.

The lookups are in float64 and know missing text. Those of skl2onnx round to float32 and do not know it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.serving.runtimes.onnx import MISSING_TEXT

ML = "ai.onnx.ml"
OPERATORS = {"": 21, ML: 5}
"""The operator sets that are written; with the fifth of ``ai.onnx.ml``, trees are added up in float64."""
KNOWN_OPERATORS = OPERATORS | {ML: 3}
"""What skl2onnx is told instead: it knows no newer ones, and takes our nodes as they are."""
FLOAT, DOUBLE = 1, 11
"""Element types, by their numbers in ``TensorProto.DataType``."""


class Graph:
    """The part of the graph that one converter writes.

    Args:
        scope, operator, container: as skl2onnx gives them to a converter.
    """

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self.outputs: list[str] = [variable.full_name for variable in operator.outputs]
        self._scope = scope
        self._operator = operator
        self._container = container

    def add(self, kind: str, *inputs: str, result: str = "", domain: str = "", **attributes: Any) -> str:
        """Add a node and give the name of its result."""
        result = result or self._scope.get_unique_variable_name(kind.lower())
        name = self._scope.get_unique_operator_name(kind)
        version = KNOWN_OPERATORS[domain]
        self._container.add_node(
            kind, list(inputs), [result], op_domain=domain, op_version=version, name=name, **attributes
        )
        return result

    def constant(self, values: NDArray[Any]) -> str:
        """Add a constant with the values' type and shape, and give its name.

        Text comes as an array of ``object``.
        """
        return self.add("Constant", value=tensor(values))

    def columns(self) -> list[tuple[str, bool]]:
        """List the operator's input columns in order.

        Of each: its name, of shape (n, 1), and whether it holds text.
        """
        found = []
        for variable in self._operator.inputs:
            width = variable.get_second_dimension()
            for place in range(width):
                name = variable.full_name
                if width > 1:
                    name = self.add("Gather", name, self.constant(np.array([place])), axis=1)
                found.append((name, is_text(variable)))
        return found

    def matrix(self) -> str:
        """The operator's numbers as float64 of shape (n, columns)."""
        parts = [self.add("Cast", variable.full_name, to=DOUBLE) for variable in self._operator.inputs]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=1)


def is_text(variable: Any) -> bool:
    """Tell whether a variable of skl2onnx holds text."""
    return type(variable.type).__name__ == "StringTensorType"


def tensor(values: NDArray[Any]) -> Any:
    """A TensorProto of an array; text comes as an array of ``object``."""
    from onnx import TensorProto, numpy_helper

    if values.dtype == object:
        text = [value.encode() for value in values.ravel().tolist()]
        return TensorProto(name="text", data_type=TensorProto.STRING, dims=values.shape, string_data=text)
    return numpy_helper.from_array(np.ascontiguousarray(values), "numbers")


_NEVER_SEEN = "\x00unseen"
"""Text that no category equals."""


def convert_encoder(scope: Any, operator: Any, container: Any) -> None:
    """Write a OneHotEncoder or OrdinalEncoder as a table for each column.

    The encoder itself fills the tables in.
    """
    graph, encoder = Graph(scope, operator, container), operator.raw_operator
    parts = zip(graph.columns(), encoder.categories_, _tables(encoder), strict=True)
    found = [look_up(graph, column, text, categories, table) for (column, text), categories, table in parts]
    graph.add("Concat", *found, result=graph.outputs[0], axis=1)


def encoder_shape(operator: Any) -> None:
    """Tell skl2onnx that an encoder gives float64, one column or several for each feature."""
    _gives_numbers(operator, sum(_widths(operator.raw_operator)))


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Write a SimpleImputer: the fitted statistic in place of each missing value."""
    graph, imputer = Graph(scope, operator, container), operator.raw_operator
    statistics = imputer.statistics_.tolist()
    if imputer.add_indicator or not _is_missing(imputer.missing_values) or any(map(_is_missing, statistics)):
        raise NotImplementedError("a SimpleImputer that adds or drops columns, or replaces values that are not missing")
    filled = []
    for (column, text), statistic in zip(graph.columns(), statistics, strict=True):
        if text:
            absent = graph.add("Equal", column, graph.constant(_texts([MISSING_TEXT])))
            filled.append(graph.add("Where", absent, graph.constant(_texts([statistic])), column))
        else:
            number = graph.add("Cast", column, to=DOUBLE)
            absent = graph.add("IsNaN", number)
            filled.append(graph.add("Where", absent, graph.constant(np.array([float(statistic)])), number))
    graph.add("Concat", *filled, result=graph.outputs[0], axis=1)


def imputer_shape(operator: Any) -> None:
    """Tell skl2onnx that a SimpleImputer gives text where it takes text, else float64."""
    from skl2onnx.common.data_types import StringTensorType

    width = len(operator.raw_operator.statistics_)
    kinds = set(map(is_text, operator.inputs))
    if len(kinds) > 1:
        raise NotImplementedError("a SimpleImputer over text and numbers together")
    if kinds == {True}:
        operator.outputs[0].type = StringTensorType([None, width])
    else:
        _gives_numbers(operator, width)


def look_up(graph: Graph, column: str, text: bool, categories: NDArray[Any], table: NDArray[np.float64]) -> str:
    """Give the table row for each value of a column.

    The last row stands for every value that is no category.

    Args:
        column: name of the values, shape (n, 1).
        text: whether they are text.
        categories: shape (c,); a missing value may be among them.
        table: shape (c + 1, width).
    """
    keys = _texts(categories.tolist()) if text else categories.astype(np.float64)
    place = graph.add(
        "LabelEncoder",
        column if text else graph.add("Cast", column, to=DOUBLE),
        domain=ML,
        keys_tensor=tensor(keys),
        values_tensor=tensor(np.arange(len(keys))),
        default_tensor=tensor(np.array([len(keys)])),
    )
    rows = graph.add("Gather", graph.constant(table), place, axis=0)
    return graph.add("Reshape", rows, graph.constant(np.array([-1, table.shape[1]])))


def _tables(encoder: Any) -> Iterator[NDArray[np.float64]]:
    """For each column, what the encoder makes of its categories and of an unseen value.

    An encoder that refuses the unseen has NaN for it, so that a model of sums has no answer either.
    """
    import pandas as pd

    widths = _widths(encoder)
    names = getattr(encoder, "feature_names_in_", range(len(widths)))
    first = {name: categories[0] for name, categories in zip(names, encoder.categories_, strict=True)}
    for place, (name, categories) in enumerate(zip(names, encoder.categories_, strict=True)):
        refuses = encoder.handle_unknown == "error"
        values = [*categories.tolist(), *([] if refuses else [_unseen(categories)])]
        columns = {other: [value] * len(values) for other, value in first.items()} | {name: values}
        encoded = encoder.transform(pd.DataFrame(columns, dtype=object))
        dense = encoded.toarray() if hasattr(encoded, "toarray") else np.asarray(encoded)
        start = sum(widths[:place])
        table = dense[:, start : start + widths[place]].astype(np.float64)
        yield np.vstack([table, np.full((1, widths[place]), np.nan)]) if refuses else table


def _widths(encoder: Any) -> list[int]:
    """The number of columns that an encoder makes of each feature."""
    if not hasattr(encoder, "drop_idx_"):
        return [1] * len(encoder.categories_)
    rare = getattr(encoder, "infrequent_categories_", [None] * len(encoder.categories_))
    dropped = [None] * len(rare) if encoder.drop_idx_ is None else encoder.drop_idx_
    return [
        len(categories) - (0 if few is None else len(few) - 1) - (drop is not None)
        for categories, few, drop in zip(encoder.categories_, rare, dropped, strict=True)
    ]


def _unseen(categories: NDArray[Any]) -> str | float:
    present = [value for value in categories.tolist() if not _is_missing(value)]
    return _NEVER_SEEN if any(isinstance(value, str) for value in present) else max(map(float, present), default=0) + 1


def _texts(values: list[Any]) -> NDArray[Any]:
    """Text as keys and constants hold it, a missing one as it is sent."""
    if strange := [value for value in values if not isinstance(value, str) and not _is_missing(value)]:
        raise NotImplementedError(f"text and {type(strange[0]).__name__} in one column")
    return np.array([MISSING_TEXT if _is_missing(value) else value for value in values], dtype=object)


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN


def _gives_numbers(operator: Any, width: int) -> None:
    from skl2onnx.common.data_types import DoubleTensorType

    operator.outputs[0].type = DoubleTensorType([None, width])
