"""The table of distances between two samples of one column.

Each has the value to expect of it when nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from app.statistics.histograms import (
    IntArray,
    RobustScale,
    js_distance,
    js_noise_floor,
    psi,
    psi_noise_floor,
    total_variation,
    total_variation_noise_floor,
)
from app.statistics.order import Pair, cramer_von_mises, ks_noise_floor, ks_statistic


class Samples(NamedTuple):
    """The two samples of one column.

    Attributes:
        reference: rows of the reference per bin.
        window: rows of the window in the same bins.
        pair: the sorted values of both sides; None for categories, and where one side has no value.
        scale: the robust scale of the reference's values; None without ``pair``.
    """

    reference: IntArray
    window: IntArray
    pair: Pair | None = None
    scale: RobustScale | None = None


class HistogramDistance(NamedTuple):
    """A distance of two histograms over the same bins.

    Attributes:
        measure: gives it from the counts of reference and window.
        noise_floor: gives what to expect of it when nothing has changed, for independent rows.
        is_squared: whether it grows with the square of a difference, as a variance does.
    """

    measure: Callable[[IntArray, IntArray], float]
    noise_floor: Callable[[IntArray, IntArray], float]
    is_squared: bool = False


class ValueDistance(NamedTuple):
    """A distance of two samples of ordered values.

    ``noise_floor`` is None where none is reported.
    """

    measure: Callable[[Pair, RobustScale], float]
    noise_floor: Callable[[Pair, RobustScale], float] | None = None


def _ks(pair: Pair, scale: RobustScale) -> float:  # noqa: ARG001 - it has no unit
    return ks_statistic(pair)


def _ks_floor(pair: Pair, scale: RobustScale) -> float:  # noqa: ARG001 - as above
    return ks_noise_floor(pair.n, pair.m)


def _wasserstein(pair: Pair, scale: RobustScale) -> float:
    return scale.wasserstein(pair.window)


def _wasserstein_floor(pair: Pair, scale: RobustScale) -> float:
    return scale.noise_floor(pair.n, pair.m)


def _cramer_von_mises(pair: Pair, scale: RobustScale) -> float:  # noqa: ARG001 - it has no unit
    return float(cramer_von_mises(pair.ranks, pair.n))


OF_HISTOGRAMS: Mapping[str, HistogramDistance] = {
    "psi": HistogramDistance(psi, psi_noise_floor, is_squared=True),
    "js_distance": HistogramDistance(js_distance, js_noise_floor),
    "total_variation": HistogramDistance(total_variation, total_variation_noise_floor),
}
OF_VALUES: Mapping[str, ValueDistance] = {
    "ks_statistic": ValueDistance(_ks, _ks_floor),
    "wasserstein": ValueDistance(_wasserstein, _wasserstein_floor),
    "cramer_von_mises": ValueDistance(_cramer_von_mises),
}


def measure(name: str, samples: Samples) -> float | None:
    """Measure one distance between two samples.

    Args:
        name: a key of :data:`OF_HISTOGRAMS` or :data:`OF_VALUES`.
        samples: both sides of the column.

    Returns:
        The distance; None where it needs ordered values and there are none.

    Raises:
        KeyError: no distance has this name.

    Example:
        >>> measure("psi", Samples(np.array([500, 500]), np.array([500, 500])))
        0.0
    """
    if name in OF_HISTOGRAMS:
        return OF_HISTOGRAMS[name].measure(samples.reference, samples.window)
    distance = OF_VALUES[name]
    if samples.pair is None or samples.scale is None:
        return None
    return distance.measure(samples.pair, samples.scale)


def noise_floor(name: str, samples: Samples, inflation: float = 1.0) -> float | None:
    """Expect this value of a distance when nothing has changed.

    Formula:
        The floor for independent rows times ``inflation`` for a squared distance, else times its root.

    Args:
        name: a key of :data:`OF_HISTOGRAMS` or :data:`OF_VALUES`.
        samples: both sides of the column.
        inflation: how many times the variance is larger than that of independent rows.

    Returns:
        The floor, in the unit of the distance; None where the distance has none here.

    Raises:
        KeyError: no distance has this name.

    Example:
        >>> samples = Samples(np.full(10, 1000), np.full(10, 100))
        >>> round(noise_floor("psi", samples), 4), round(noise_floor("psi", samples, 2.0), 4)
        (0.0099, 0.0198)
    """
    wider = float(np.sqrt(inflation))
    if name in OF_HISTOGRAMS:
        histogram = OF_HISTOGRAMS[name]
        expected = histogram.noise_floor(samples.reference, samples.window)
        return expected * (inflation if histogram.is_squared else wider)
    floor = OF_VALUES[name].noise_floor
    if floor is None or samples.pair is None or samples.scale is None:
        return None
    return floor(samples.pair, samples.scale) * wider
