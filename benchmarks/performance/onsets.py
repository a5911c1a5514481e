"""How often a model that has not changed is called degraded: onsets for each look, against what the budget allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.monitoring.performance.degradation import Degradation, Judge
from app.monitoring.performance.scoring import Measured, Scored
from app.statistics.intervals import Share
from benchmarks.performance.populations import Population

WINDOW, NEW, REFERENCE_ROWS = 1_000, 100, 10_000


@dataclass(frozen=True, slots=True)
class Onsets:
    """What was counted at one level."""

    alpha: float
    allowed: float
    looks: int
    onsets: int

    @property
    def ratio(self) -> float:
        """Onsets over those that the level allows."""
        return self.onsets / (self.looks * self.alpha)


def onsets(
    population: Population, alphas: Sequence[float], allowances: Sequence[float], streams: int, looks: int, seed: int
) -> list[Onsets]:
    """Look again and again at rolling windows, a tenth of them new, of streams with a fresh reference each."""
    rng = np.random.default_rng(seed)
    settings = [Degradation(allowed, alpha) for allowed in allowances for alpha in alphas]
    counted = dict.fromkeys(settings, 0)
    for _ in range(streams):
        baseline = population.draw(rng, REFERENCE_ROWS).measure()
        before: dict[Degradation, dict[str, Any]] = {setting: {} for setting in settings}
        for start, found in _windows(population.draw(rng, WINDOW + NEW * (looks - 1))):
            for setting in settings:
                judge = Judge(setting, 1, _moment(start), _moment(start + WINDOW - 1))
                graded = judge.grade(found, baseline, before[setting], rows=WINDOW)
                counted[setting] += _is_open(graded) and not _is_open(before[setting])
                before[setting] = graded
    return [Onsets(each.alpha, each.allowed, streams * looks, count) for each, count in counted.items()]


def detected(
    population: Population, dropped: Population, limits: Sequence[Degradation], windows: int, seed: int
) -> list[float]:
    """The share of single windows that show a fallen accuracy, each against a fresh reference, at each level."""
    rng = np.random.default_rng(seed)
    found = np.zeros(len(limits))
    for _ in range(windows):
        baseline, window = _accuracy(population.draw(rng, REFERENCE_ROWS)), _accuracy(dropped.draw(rng, WINDOW))
        judged = (Judge(each, 1, "", "").grade(window, baseline, {}, rows=WINDOW) for each in limits)
        found += [_is_open(graded) for graded in judged]
    return list(found / windows)


def _accuracy(rows: Scored) -> dict[str, Measured]:
    hits = int((rows.outcomes == rows.predictions).sum())
    return {"accuracy": Measured(hits / rows.rows, Share(hits, rows.rows))}


def _windows(stream: Scored) -> Iterator[tuple[int, dict[str, Measured]]]:
    places = np.arange(stream.rows)
    for start in range(0, stream.rows - WINDOW + 1, NEW):
        yield start, stream.only((places >= start) & (places < start + WINDOW)).measure()


def _moment(row: int) -> str:
    return f"{row:012}"


def _is_open(graded: dict[str, Any]) -> bool:
    return any(entry["status"] == "degraded" for entry in graded.values())
