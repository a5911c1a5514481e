"""ONNX models: exported from scikit-learn, and small graphs made node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

from app.errors import BundleError

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
