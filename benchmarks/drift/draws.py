"""Laws to draw columns from, as the monitor encodes them: float64 with NaN for missing, or codes of categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from app.monitoring.reference.columns import ReferenceColumn, Subject

Column: TypeAlias = NDArray[Any]
Draw: TypeAlias = Callable[[np.random.Generator, int], Column]

NUMBER = Subject("x", "numeric")
FIFTY = Subject("x", "categorical", tuple(str(code) for code in range(50)))


def reference_of(values: Column) -> ReferenceColumn:
    """Make a drawn column a reference."""
    return ReferenceColumn(NUMBER if values.dtype.kind == "f" else FIFTY, values)


def missing(share: float) -> Draw:
    """Normal numbers of which a share is missing."""
    return lambda rng, rows: np.where(rng.random(rows) < share, np.nan, rng.normal(size=rows))


def _autoregressive(rng: np.random.Generator, rows: int, memory: float = 0.8) -> Column:
    noise = rng.normal(size=rows + 100)
    series = lfilter([np.sqrt(1 - memory**2)], [1, -memory], noise)
    return np.asarray(series[100:], dtype=np.float64)


def _zero_inflated(rng: np.random.Generator, rows: int) -> Column:
    return np.where(rng.random(rows) < 0.5, 0.0, rng.lognormal(size=rows))


def _categories(weights: NDArray[np.float64]) -> Draw:
    return lambda rng, rows: rng.choice(len(weights), rows, p=weights / weights.sum()).astype(np.int32)


def laws() -> Mapping[str, Draw]:
    """All laws, by name."""
    return {
        "normal": lambda rng, rows: rng.normal(size=rows),
        "lognormal": lambda rng, rows: rng.lognormal(size=rows),
        "Student t, 2": lambda rng, rows: rng.standard_t(2, rows),
        "Poisson 1": lambda rng, rows: rng.poisson(1.0, rows).astype(np.float64),
        "zero-inflated": _zero_inflated,
        "50 categories, even": _categories(np.ones(50)),
        "50 categories, Zipf": _categories(1 / np.arange(1.0, 51.0)),
        "10 % missing": missing(0.1),
        "Poisson 20": lambda rng, rows: rng.poisson(20.0, rows).astype(np.float64),
        "AR(1) 0.8": _autoregressive,
    }
