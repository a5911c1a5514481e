"""Runs with something and runs without it, in turn: what it does to the tail is the median of the pairs' ratios."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.load.closed_loop import Figures
from benchmarks.results.table import Cells
from benchmarks.results.targets import ratio


@dataclass(frozen=True, slots=True)
class Pairs:
    """The runs of each kind, in order."""

    beside: list[Figures]
    alone: list[Figures]

    @property
    def p99_ratio(self) -> float:
        """How many times longer the p99 is."""
        return ratio([run.p99_ms for run in self.beside], [run.p99_ms for run in self.alone])

    def rows(self, beside: str, alone: str) -> list[Cells]:
        """Medians of both kinds under these names, for the columns :data:`COLUMNS`."""
        return [_row(beside, self.beside), _row(alone, self.alone)]


COLUMNS = ("run", "requests/s", "p50 ms", "p99 ms", "failed")


def alternate(number: int, run: Callable[[bool], Figures]) -> Pairs:
    """So many pairs; the kind that comes first changes from pair to pair."""
    found: dict[bool, list[Figures]] = {True: [], False: []}
    for pair in range(number):
        for beside in (pair % 2 == 0, pair % 2 == 1):
            figures = run(beside)
            print(f"pair {pair + 1} {'with' if beside else 'without':8} p99 {figures.p99_ms:.2f} ms", flush=True)
            found[beside].append(figures)
    return Pairs(found[True], found[False])


def _row(name: str, runs: list[Figures]) -> Cells:
    middle = [median(getattr(run, field) for run in runs) for field in ("rate", "p50_ms", "p99_ms")]
    return (name, f"{middle[0]:,.0f}", f"{middle[1]:.2f}", f"{middle[2]:.2f}", sum(run.failed for run in runs))
