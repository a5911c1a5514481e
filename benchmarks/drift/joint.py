"""Joint drift measured: false alarms where nothing has changed, power against a changed correlation, and time.

``python -m benchmarks.drift.joint`` prints Markdown tables, in about five minutes on one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from app.monitoring.drift.multivariate import separate
from app.monitoring.reference.columns import Subject

Columns: TypeAlias = list[NDArray[Any]]
Draw: TypeAlias = Callable[[np.random.Generator, int], Columns]
ALPHA = 2.3e-5
"""Joint drift's part of a look every ten minutes with one false alarm in 30 days."""


def normal(count: int) -> Draw:
    """Independent normal features."""
    return lambda rng, rows: list(rng.normal(size=(count, rows)))


def chains(rng: np.random.Generator, rows: int) -> Columns:
    """Five autoregressions of 0.8."""
    return list(signal.lfilter([1.0], [1.0, -0.8], rng.normal(size=(5, rows + 100)))[:, 100:])


def mixed(rng: np.random.Generator, rows: int) -> Columns:
    """Correlated, heavy-tailed, tied, missing and rare values, and 50 categories by Zipf's law, the last column."""
    x = rng.normal(size=rows)
    zipf = 1 / np.arange(1, 51)
    gaps = np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(size=rows))
    rare = (rng.random(rows) < 0.02).astype(np.float64)
    counts = rng.poisson(1.0, rows).astype(np.float64)
    codes = rng.choice(50, rows, p=zipf / zipf.sum()).astype(np.int32)
    return [x, x + rng.normal(size=rows), rng.standard_t(2, rows), counts, gaps, rare, codes]


def correlated(count: int, correlation: float) -> Draw:
    """Normal features, of which the first two are correlated."""

    def draw(rng: np.random.Generator, rows: int) -> Columns:
        columns = rng.normal(size=(count, rows))
        columns[1] = correlation * columns[0] + np.sqrt(1 - correlation**2) * columns[1]
        return list(columns)

    return draw


def subjects(columns: Columns) -> list[Subject]:
    """What the columns are."""
    return [
        Subject(f"x{place}", "numeric") if column.dtype.kind == "f" else Subject("code", "categorical", (*range(50),))
        for place, column in enumerate(columns)
    ]


def p_values(reference: Draw, window: Draw, rows: tuple[int, int], repetitions: int) -> NDArray[np.float64]:
    """The p-values of fresh references and windows."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(repetitions):
        ours, theirs = reference(rng, rows[0]), window(rng, rows[1])
        found.append(separate(subjects(ours), ours, theirs, ordered=reference is chains).p_value)
    return np.array(found)


def null_table() -> Iterator[str]:
    """False-alarm rates."""
    yield "| no drift | reference, window | repetitions | 5 % | 1 % | 0.1 % |\n| --- | --- | --- | --- | --- | --- |"
    for name, draw, rows, repetitions in (
        ("1 normal feature", normal(1), (2000, 300), 5000),
        ("2 normal features", normal(2), (2000, 300), 5000),
        ("20 normal features", normal(20), (2000, 300), 2000),
        ("7 mixed features", mixed, (2000, 300), 3000),
        ("7 mixed features", mixed, (10_000, 100), 1000),
        ("5 autoregressions of 0.8", chains, (2000, 300), 2000),
    ):
        found = p_values(draw, draw, rows, repetitions)
        rates = " | ".join(f"{np.mean(found <= alpha):.2%}" for alpha in (0.05, 0.01, 0.001))
        yield f"| {name} | {rows[0]}, {rows[1]} | {repetitions} | {rates} |"


def power_table() -> Iterator[str]:
    """Power where two features' correlation changes and every margin stays, and the time of one comparison."""
    yield f"\n| correlation | features | power at {ALPHA:g} | ms |\n| --- | --- | --- | --- |"
    for before, after in ((0.6, -0.6), (0.3, -0.3), (0.8, 0.6), (0.3, 0.0)):
        for count in (2, 20, 100):
            started = time.perf_counter()
            found = p_values(correlated(count, before), correlated(count, after), (10_000, 1000), 40)
            took = (time.perf_counter() - started) / 40 * 1000
            yield f"| {before} to {after} | {count} | {np.mean(found <= ALPHA):.0%} | {took:.0f} |"


def main() -> None:
    """Print both tables."""
    for table in (null_table(), power_table()):
        for line in table:
            print(line, flush=True)


if __name__ == "__main__":
    main()
