"""What several tests say together, and what one says when its rows are not independent."""

from __future__ import annotations

import numpy as np
from scipy import special

from app.monitoring.statistics.arrays import FloatArray


def smallest_p_value(p_values: FloatArray) -> float:
    """Bonferroni's p-value of "none of these nulls is false": the smallest one times their number, at most 1.

    >>> smallest_p_value(np.array([0.01, 0.5]))
    0.02
    """
    return min(float(np.min(p_values)) * len(p_values), 1.0) if len(p_values) else 1.0


def widen(p_values: FloatArray, inflation: float) -> FloatArray:
    """Give the one-sided p-values of normal statistics whose variance is larger than was assumed.

    ``Phi(z / sqrt(inflation))`` of the z behind each p-value.

    >>> widen(np.array([0.001]), 1.0).round(6), widen(np.array([0.001]), 4.0).round(3)
    (array([0.001]), array([0.061]))
    """
    return np.asarray(special.ndtr(special.ndtri(p_values) / np.sqrt(inflation)), dtype=np.float64)


def benjamini_hochberg(p_values: FloatArray) -> FloatArray:
    """Adjust p-values to control the false discovery rate, in the order given.

    ``min over j >= i of p_(j) n / j``: Benjamini and Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x. When no
    null is false, the chance of any adjusted value at or below alpha is at most alpha. P-values that were divided by
    weights of mean 1 keep this: Genovese, Roeder and Wasserman (2006), doi:10.1093/biomet/93.3.509.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03])).round(4)
    array([0.03, 0.04, 0.04])
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * count / np.arange(1, count + 1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(adjusted, 1.0)
