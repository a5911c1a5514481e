"""Rows of numbers as a table: packed, since NumPy takes thrice as long to look through nested sequences."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
