"""Rows that come more than once: where rows are one of a kind by nature, a copy tells nothing new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NATURAL = 0.1
"""Expected number of equal rows for each row of a window, from which on repeats are nothing special."""
_FEWEST = 50
"""Rows that even the most uniform window is worth: who sends one strange row for ever is not excused by it."""
_FACTOR, _SHIFT = 0x9E3779B97F4A7C15, 29

Codes = NDArray[np.uint64]


def row_codes(columns: Sequence[NDArray[Any]]) -> Codes:
    """Give each row of encoded columns a number that equal rows share, and others practically never do.

    >>> codes = row_codes([np.array([1.0, 1.0, 2.0]), np.array([0.0, -0.0, 0.0])]).tolist()
    >>> codes[0] == codes[1], codes[0] == codes[2]
    (True, False)
    """
    codes = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        if column.dtype.kind not in "fi":  # unreadable, which the comparison of this column says
            continue
        codes ^= (column.astype(np.float64) + 0.0).view(np.uint64)  # adding zero turns -0.0 into 0.0
        codes *= np.uint64(_FACTOR)
        codes ^= codes >> np.uint64(_SHIFT)
    return codes


def collisions(codes: Codes) -> float:
    """Estimate, without bias, the chance that two rows are equal: Simpson (1949), doi:10.1038/163688a0.

    >>> collisions(np.array([1, 1, 2], dtype=np.uint64))
    0.3333333333333333
    """
    rows = len(codes)
    counts = np.unique(codes, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / (rows * (rows - 1))) if rows > 1 else 0.0


def worth(codes: Codes, natural: float) -> float:
    """Give the independent rows per row of a window whose rows may be copies of fewer: 1 where there is no sign of it.

    m rows drawn from h different ones have a mean as uncertain as ``1 / (1/m + 1/h)`` independent rows do, and 1/h is
    the chance that two of them are equal; the sum is Kish's effective size (1965), "Survey Sampling".

    Args:
        natural: the same chance among rows of the reference, which is no sign of copies.
    """
    m = len(codes)
    if natural * m > _NATURAL:
        return 1.0
    found = 1 / (1 / m + max(collisions(codes) - natural, 0.0))
    return min(max(found, _FEWEST) / m, 1.0)


def without_copies(columns: Sequence[NDArray[Any]], codes: Codes, natural: float) -> list[NDArray[Any]]:
    """Keep the first of equal rows, in their order; where repeats are natural, keep all."""
    if natural * len(codes) > _NATURAL:
        return list(columns)
    firsts = np.sort(np.unique(codes, return_index=True)[1])
    return [column[firsts] for column in columns]
