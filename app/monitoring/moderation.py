"""Many variances of few degrees of freedom each: what they have in common makes every one of them surer."""

from __future__ import annotations

import numpy as np
from scipy import special

from app.monitoring.statistics import FloatArray

_TAIL = 5e-6
"""Where the tails of Student and Gauss are compared: about what a verdict asks for."""


def moderated(variances: FloatArray, freedom: int) -> tuple[FloatArray, float]:
    """Draw variances of few degrees of freedom towards what they have in common; also the degrees they then have.

    Their spread beyond that of chi-square is fitted by an inverse chi-square law: where there is none, all are their
    mean; the more there is, the more each is left as it is. Smyth (2004), doi:10.2202/1544-6115.1027.

    >>> moderated(np.array([1.1, 0.9, 1.0, 1.0]), 19)
    (array([1., 1., 1., 1.]), inf)
    """
    logs = np.log(np.maximum(variances, 1e-9)) - special.digamma(freedom / 2) + np.log(freedom / 2)
    if len(logs) < 2:  # noqa: PLR2004 - one has nothing in common with others
        return variances, float(freedom)
    spread = float(np.var(logs, ddof=1) - special.polygamma(1, freedom / 2))
    if spread <= 0:
        return np.full(len(logs), variances.mean()), np.inf
    prior = 2 * _inverse_trigamma(spread)
    common = np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2))
    return (prior * common + freedom * variances) / (prior + freedom), prior + freedom


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method on 1/trigamma, which is nearly linear."""
    x = 0.5 + 1 / value
    for _ in range(20):
        trigamma = special.polygamma(1, x)
        x += float(trigamma * (1 - trigamma / value) / special.polygamma(2, x))
    return x


def student_widening(freedom: float) -> float:
    """Square of how much further out Student's tail lies than the normal one: the price of an estimated variance.

    >>> round(student_widening(19), 2), student_widening(np.inf)
    (1.81, 1.0)
    """
    return float((special.stdtrit(freedom, _TAIL) / special.ndtri(_TAIL)) ** 2) if np.isfinite(freedom) else 1.0
