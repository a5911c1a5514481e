"""How often the shown intervals, of nominal 95 %, hold the true value: by metric, population and number of rows."""

from __future__ import annotations

from collections import Counter

import numpy as np

from benchmarks.performance.populations import Population

TRUTH_ROWS = 2_000_000


def true_values(population: Population, seed: int) -> dict[str, float]:
    """The metrics over so many rows that what is left of chance does not matter."""
    found = population.draw(np.random.default_rng(seed), TRUTH_ROWS).measure()
    return {name: metric.value for name, metric in found.items() if metric.value is not None}


def coverage(
    population: Population, truth: dict[str, float], rows: int, repetitions: int, seed: int, confidence: float = 0.95
) -> dict[str, tuple[float, float, float]]:
    """For each metric the shares of intervals that hold the truth, lie above it, and lie below it."""
    rng = np.random.default_rng(seed)
    seen, above, below = Counter[str](), Counter[str](), Counter[str]()
    for _ in range(repetitions):
        for name, metric in population.draw(rng, rows).measure().items():
            if metric.interval is None:
                continue
            low, high = metric.interval.bounds(confidence)
            seen[name] += 1
            above[name] += truth[name] < low
            below[name] += truth[name] > high
    return {
        name: (1 - (above[name] + below[name]) / seen[name], above[name] / seen[name], below[name] / seen[name])
        for name in seen
    }
