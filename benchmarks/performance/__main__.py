"""Measure realised performance: ``python -m benchmarks.performance [SECTION ...]``, by default every section."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from app.monitoring.check_request import PERFORMANCE_SHARE, alpha_per_look
from app.monitoring.performance.degradation import Degradation
from benchmarks.performance import cost
from benchmarks.performance.coverage import coverage, true_values
from benchmarks.performance.onsets import Onsets, detected, onsets
from benchmarks.performance.populations import POPULATIONS, Population, guesses
from benchmarks.results.table import Cells, publish, table

README = Path(__file__).with_name("README.md")
ROWS = (50, 200, 1_000, 5_000)
ALPHAS = (0.003, 0.01, 0.03)
NONE, USUAL = 1e-9, 0.05
"""Allowed degradations: next to none, where the budget is spent, and the default."""
DROPS = (0.05, 0.075, 0.10, 0.125, 0.15, 0.20)
WINDOWS = 2_000
MONTH_S = 30 * 86_400.0
BINARY_METRICS = 11


def coverage_table(pool: ProcessPoolExecutor) -> str:
    """The share of intervals that hold the truth, by population, metric and rows."""
    parts = pool.map(_covered, POPULATIONS)
    head = ("population", "metric", "truth", *(f"{rows} rows" for rows in ROWS))
    return table(head, (row for part in parts for row in part), left=2)


def onsets_table(pool: ProcessPoolExecutor) -> str:
    """Onsets of models that do not change, over those that the budget allows."""
    lines = []
    for population, streams in ((POPULATIONS[0], 6), (POPULATIONS[5], 30)):
        run = partial(onsets, population, ALPHAS, (NONE, USUAL), streams, 60)
        for parts in zip(*pool.map(run, range(10)), strict=True):
            looks, count = sum(part.looks for part in parts), sum(part.onsets for part in parts)
            total = Onsets(parts[0].alpha, parts[0].allowed, looks, count)
            allowed = "none" if total.allowed == NONE else f"{total.allowed:g}"
            lines.append((population.name, allowed, f"{total.alpha:g}", looks, count, f"{total.ratio:.2f}"))
    return table(("population", "allowed", "level of a look", "looks", "onsets", "ratio"), lines, left=2)


def power_table(pool: ProcessPoolExecutor) -> str:
    """How often one window shows a drop of accuracy from 0.90, by level."""
    return table(("drop", "95 % interval", "a look every minute", "every hour", "every day"), pool.map(_power, DROPS))


def cost_table(_pool: ProcessPoolExecutor) -> str:
    """What a check of 100,000 labelled rows takes."""
    seconds, processor, mebibytes = cost.measure()
    cells = (f"{seconds:.2f}", f"{processor:.2f}", f"{mebibytes:.0f}")
    return table(("seconds", "seconds of the processor", "MiB"), [cells], left=0)


def main() -> None:
    """Measure the chosen sections, and put each table between its marks of README.md."""
    sections = {"coverage": coverage_table, "onsets": onsets_table, "power": power_table, "cost": cost_table}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", choices=[*sections, []], help="tables to measure again")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    with ProcessPoolExecutor(chosen.processes) as pool:
        for name in chosen.sections or sections:
            publish(name, sections[name](pool), write=True, page=README)


def _covered(population: Population) -> list[Cells]:
    truth = true_values(population, seed=1)
    found = [coverage(population, truth, rows, population.repetitions, seed=rows) for rows in ROWS]
    return [
        (population.name, name, f"{truth[name]:.3f}", *(f"{100 * each[name][0]:.1f}" for each in found))
        for name in truth
    ]


def _power(drop: float) -> Cells:
    before, after = (Population("", partial(guesses, accuracy=accuracy)) for accuracy in (0.90, 0.90 - drop))
    looks = (alpha_per_look(every, MONTH_S) * PERFORMANCE_SHARE for every in (60.0, 3600.0, 86_400.0))
    limits = [Degradation(USUAL, level) for level in (0.025, *(alpha / BINARY_METRICS for alpha in looks))]
    found = detected(before, after, limits, WINDOWS, seed=3)
    return (f"{drop:.3f}", *(f"{100 * each:.1f}" for each in found))


if __name__ == "__main__":
    main()
