"""How much rows in order of time are worth: those that resemble their neighbours tell less than independent ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.monitoring.autocorrelation import effective_rows
from app.monitoring.statistics import FloatArray

_PARTS, _FEWEST_ROWS_PER_PART = 4, 100
_MOST_ROWS = 2000


class Inflation(NamedTuple):
    """How many times the variance of a test of the values, or of the missing ones, exceeds that of independent rows."""

    values: float
    gaps: float


@dataclass(frozen=True, slots=True)
class Independence:
    """Independent rows per row, from 0 to 1.

    Attributes:
        values: by what the values are.
        gaps: by which of them are missing.
    """

    values: float = 1.0
    gaps: float = 1.0

    @classmethod
    def of(cls, column: NDArray[Any]) -> Independence:
        """Measure an encoded column whose rows are in order of time.

        The latest rows, which are enough to see that neighbours are alike. Where they are, each quarter by itself, then
        the median: a drift that begins within the window makes its rows alike as well, and must not excuse itself.
        """
        if column.dtype.kind != "f":
            return cls(*[_worth(column.astype(np.float64))] * 2)
        missing = np.isnan(column)
        return cls(_worth(column), _worth(missing.astype(np.float64)) if missing.any() else 1.0)

    def at_most(self, share: float) -> Independence:
        """Count no more than a share of the rows, whatever their order says."""
        return Independence(min(self.values, share), min(self.gaps, share))

    def inflation(self, rows: int, reference: Independence, reference_rows: int) -> Inflation:
        """Compare the chance difference of this and a reference with that of as many independent rows."""
        ours = rows / (rows + reference_rows)
        return Inflation(
            ours / reference.values + (1 - ours) / self.values, ours / reference.gaps + (1 - ours) / self.gaps
        )


def _worth(column: FloatArray) -> float:
    latest = column[-_MOST_ROWS:]
    parts = min(_PARTS, len(latest) // _FEWEST_ROWS_PER_PART)
    whole = _share(latest)
    if whole == 1.0 or not parts:
        return whole
    return float(np.median([_share(part) for part in np.array_split(latest, parts)]))


def _share(part: FloatArray) -> float:
    present = int(np.count_nonzero(~np.isnan(part)))
    return effective_rows(part) / present if present else 1.0
