"""Upper tails of quadratic forms in normal variables, exact down to the smallest float."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from app.monitoring.statistics.arrays import FloatArray

_INTERVALS, _NODES = 16, 24
_CONVERGED = 20.0
"""Exponent from which terms no longer count; where even the last one counts, so small an x is exceeded for certain."""


def anderson_darling_tail(x: FloatArray) -> FloatArray:
    """Probability that the limit of Anderson's and Darling's statistic exceeds x, of any shape.

    The law of ``sum chi-square_1 / (k (k + 1))`` over k >= 1: Anderson and Darling (1952), doi:10.1214/aoms/1177729437.

    >>> anderson_darling_tail(np.array([2.492, 3.878])).round(4)
    array([0.05, 0.01])
    """
    return _sum(_anderson_darling(), x)


def cramer_von_mises_tail(x: FloatArray) -> FloatArray:
    """Probability that the limit of Cramér's and von Mises' statistic exceeds x, of any shape.

    The law of ``sum chi-square_1 / (k pi)^2`` over k >= 1: Anderson and Darling (1952), doi:10.1214/aoms/1177729437.

    >>> cramer_von_mises_tail(np.array([0.46136, 1.16204])).round(4)
    array([0.05 , 0.001])
    """
    return _sum(_cramer_von_mises(), x)


def _sum(exponentials: tuple[FloatArray, FloatArray], x: FloatArray) -> FloatArray:
    nodes, weights = exponentials
    certain = _CONVERGED / nodes.max()
    sums = np.exp(-np.maximum(x, certain)[..., None] * nodes) @ weights
    return np.asarray(np.clip(sums, 0.0, 1.0), dtype=np.float64)


@lru_cache(maxsize=1)
def _anderson_darling() -> tuple[FloatArray, FloatArray]:
    k = np.arange(1.0, 2 * _INTERVALS + 1)
    nodes, roots = _nodes(k * (k + 1) / 2)
    determinant = np.cos(np.pi / 2 * np.sqrt(1 + 8 * nodes)) / (2 * np.pi * nodes)
    return _weighted(nodes, roots, determinant)


@lru_cache(maxsize=1)
def _cramer_von_mises() -> tuple[FloatArray, FloatArray]:
    k = np.arange(1.0, 2 * _INTERVALS + 1)
    nodes, roots = _nodes((k * np.pi) ** 2 / 2)
    determinant = np.sin(np.sqrt(2 * nodes)) / np.sqrt(2 * nodes)
    return _weighted(nodes, roots, determinant)


def _nodes(poles: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Chebyshev's nodes from each odd pole to the next even one, and the weight that they integrate, inverted."""
    left, right = poles.reshape(-1, 2, 1).swapaxes(0, 1)
    angles = (2 * np.arange(_NODES) + 1) / (2 * _NODES) * np.pi
    nodes = (left + right) / 2 + (right - left) / 2 * np.cos(angles)
    return nodes, (right - left) / 2 * np.sin(angles)


def _weighted(nodes: FloatArray, roots: FloatArray, determinant: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Write a tail as a sum of exponentials in x.

    Smirnov's formula integrates ``exp(-u x) / (pi u sqrt|D(u)|)`` from each odd root of D to the next even one, with
    alternating signs; D is the product of ``1 - u / root``. See Durbin and Knott (1972),
    doi:10.1111/j.2517-6161.1972.tb00908.x.
    """
    signs = (-1.0) ** np.arange(len(nodes))[:, None]
    weights = signs * roots / (_NODES * nodes * np.sqrt(np.abs(determinant)))
    return nodes.ravel(), weights.ravel()
