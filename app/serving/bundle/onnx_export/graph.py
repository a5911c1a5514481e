"""Build a part of an ONNX graph: nodes and constants, each known by its result's name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
