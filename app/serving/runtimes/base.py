"""The interface of every runtime, and rows as a matrix."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.types import Answer, ModelSchema, Row

RuntimeName: TypeAlias = Literal["onnx", "sklearn"]
LARGEST: Mapping[str, float] = {
    "float32": 3.4028234663852886e38,
    "int64": 2.0**63 - 1024,
    "int32": 2.0**31 - 1,
}
"""The largest double that a type holds; beyond it a number would become infinite, or another one."""
LANES = 8
# BLAS and vector instructions compute rows in blocks and the rest by another path, which rounds otherwise. With whole
# blocks only, a row's answer is the same to the last bit in any company.


class Runtime(Protocol):
    """A loaded model with its schema; a row's answer does not depend on the rows beside it."""

    schema: ModelSchema

    @property
    def bounds(self) -> Mapping[str, float]:
        """The largest size of a number that the model takes, by feature.

        A feature is absent where the model takes every double.
        """

    @property
    def tolerance(self) -> float:
        """Difference of two answers that counts as none: of probabilities, and relative of numbers."""

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer validated rows, in order; raises whatever the model raises."""


def whole_blocks(rows: Sequence[Row]) -> list[Row]:
    """Repeat the last row until the rows fill whole blocks.

    There is at least one row.
    """
    return [*rows, *[rows[-1]] * (-len(rows) % LANES)]


def by_threshold(schema: ModelSchema, probabilities: NDArray[Any]) -> list[int]:
    """The position of each row's class where the schema's threshold decides between two."""
    positive = schema.classes.index(schema.positive) if schema.positive is not None else 1
    positions: list[int] = np.where(probabilities[:, positive] >= schema.threshold, positive, 1 - positive).tolist()
    return positions


def matrix_of(rows: Sequence[Sequence[Any]], width: int) -> NDArray[np.float64]:
    """Numbers as float64 of shape (rows, width), read-only; None becomes NaN.

    >>> matrix_of([(1, 2.5), (True, None)], 2).tolist()
    [[1.0, 2.5], [1.0, nan]]
    """
    pack = struct.Struct(f"{width}d").pack
    try:
        return np.frombuffer(b"".join([pack(*row) for row in rows]), np.float64).reshape(len(rows), width)
    except struct.error:  # something is missing
        return np.array(rows, dtype=np.float64).reshape(len(rows), width)
