"""An ONNX graph run by onnxruntime: rows in, answers out, without scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.serving.estimator import LANES, by_threshold
from app.serving.onnx.guard import check_self_contained
from app.serving.trust import one_line
from app.types import Answer, ModelSchema, Row

MISSING_TEXT = "\x00"
"""How missing text is given to a converted graph: no request can carry it."""
TOLERANCE = 1e-5
"""Difference of probabilities, and relative one of numbers, that counts as none."""

Feed: TypeAlias = Mapping[str, NDArray[Any]]
Arrange: TypeAlias = Callable[[Sequence[Row]], Feed]
_NUMBERS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
_WHOLE = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
_TEXT = "tensor(string)"


class OnnxModel:
    """A graph with its schema; a row's answer does not depend on the rows beside it.

    The graph takes one tensor of shape (n, features), or one input of shape (n, 1) or (n,) for each feature, by name.
    It gives a number for each row; or a label, the probabilities of all classes in the schema's order, or both.

    Args:
        data: the file's bytes, verified by the caller.
        missing_text: what is given for missing text; None refuses it.
        what: names the file in errors.

    Raises:
        BundleError: onnxruntime refuses the graph, or it does not fit the schema.
    """

    tolerance = TOLERANCE

    def __init__(self, data: bytes, schema: ModelSchema, *, missing_text: str | None, what: str) -> None:
        self.schema = schema
        self._session = open_session(data, what)
        self._arrange = _arrangement(self._session.get_inputs(), schema.feature_names, missing_text, what)
        self._label, self._scores = _outputs(self._session.get_outputs(), schema, what)
        self._asked = [name for name in (None if schema.threshold is not None else self._label, self._scores) if name]
        self._classes = {label: label for label in schema.classes}  # graphs say 0 and 1 for False and True

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer validated rows, in order; raises ValueError where the graph has no answer, and what onnxruntime raises."""
        count = len(rows)
        if not count:
            return []
        found = dict(zip(self._asked, self._session.run(self._asked, self._arrange([*rows, *[rows[-1]] * (-count % LANES)])), strict=True))
        raise NotImplementedError
