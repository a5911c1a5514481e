"""False alarms where rows depend on each other: memory, seasons, clusters, and blocks with offsets of their own.

``python -m benchmarks.drift.dependence --streams 40`` prints a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from app.monitoring.check_request import Limits
from app.monitoring.drift.column_tests import compare_all
from app.monitoring.drift.verdict import Look, judge
from app.monitoring.reference.qualification import qualify
from app.monitoring.reference.reference import Reference
from app.monitoring.reference.seasonality import choose
from app.types import SECOND, Feature, FeatureType, ModelSchema, Task

WINDOW, STEP, REFERENCE_ROWS, FEATURES, LOOKS = 1000, 100, 10_000, 20, 100
BUDGET = 2e-3
"""Chance of a false alarm in one look, over all features."""
PERIOD_S = 60
"""Seconds between two rows: a day has 1,440 of them, and the reference spans a week."""
WEEKLY_PERIOD_S = 450
"""The same where a week has 1,344 rows, so that the reference spans seven of them."""

Table: TypeAlias = NDArray[np.float64]
Draw: TypeAlias = Callable[[np.random.Generator, int], Table]
"""Gives rows in order of time, shape (features, rows), each feature of variance 1."""


def memory(coefficient: float) -> Draw:
    """Autoregressions of the first order."""

    def draw(rng: np.random.Generator, rows: int) -> Table:
        noise = rng.normal(size=(FEATURES, rows))
        noise[:, 0] /= np.sqrt(1 - coefficient**2)
        return np.asarray(lfilter([np.sqrt(1 - coefficient**2)], [1.0, -coefficient], noise, axis=1))

    return draw


def season(period: int) -> Draw:
    """A wave of half of the variance in every feature, each with a phase of its own."""

    def draw(rng: np.random.Generator, rows: int) -> Table:
        phase = rng.uniform(0, 2 * np.pi, (FEATURES, 1))
        wave = np.sin(2 * np.pi * np.arange(rows) / period + phase)
        return np.asarray(wave + rng.normal(0, np.sqrt(0.5), (FEATURES, rows)))

    return draw


def clusters(size: int = 20) -> Draw:
    """Runs of rows of one user: a thousand rows are of fifty users, who make up a third of the variance."""

    def draw(rng: np.random.Generator, rows: int) -> Table:
        own = rng.normal(0, np.sqrt(1 / 3), (FEATURES, rows // size + 1))
        return np.asarray(np.repeat(own, size, axis=1)[:, :rows] + rng.normal(0, np.sqrt(2 / 3), (FEATURES, rows)))

    return draw


def offsets(length: int, deviation: float) -> Draw:
    """Blocks of rows that each have a mean of their own."""

    def draw(rng: np.random.Generator, rows: int) -> Table:
        own = rng.normal(0, deviation, (FEATURES, rows // length + 1))
        return np.asarray(np.repeat(own, length, axis=1)[:, :rows] + rng.normal(size=(FEATURES, rows)))

    return draw


def scenarios() -> Mapping[str, tuple[Draw, int]]:
    """All scenarios by name, with the seconds between two rows."""
    return {
        "independent": (memory(0.0), PERIOD_S),
        "AR(1) 0.5": (memory(0.5), PERIOD_S),
        "AR(1) 0.9": (memory(0.9), PERIOD_S),
        "AR(1) 0.98": (memory(0.98), PERIOD_S),
        "daily season": (season(86_400 // PERIOD_S), PERIOD_S),
        "weekly season": (season(7 * 86_400 // WEEKLY_PERIOD_S), WEEKLY_PERIOD_S),
        "clusters of 20 rows": (clusters(), PERIOD_S),
        "blocks of 500 rows, offsets of 0.1": (offsets(500, 0.1), PERIOD_S),
        "blocks of 1,000 rows, offsets of 0.2": (offsets(1000, 0.2), PERIOD_S),
    }


def schema(features: int = FEATURES) -> ModelSchema:
    """Numeric features of a regression, which may be missing."""
    listed = tuple(Feature(f"x{i}", FeatureType.NUMERIC, nullable=True) for i in range(features))
    return ModelSchema("m", "1", Task.REGRESSION, listed)


def reference_of(table: Table, times: NDArray[np.int64] | None) -> Reference:
    """Make rows a reference, qualified as a bundle is."""
    reference = Reference(schema(len(table)), list(table), np.zeros(table.shape[1]), times=times, sha256="a")
    qualification = qualify(reference.features, reference.answers, times)
    return Reference(
        schema(len(table)), list(table), np.zeros(table.shape[1]), times=times, sha256="a", qualification=qualification
    )


def onsets(draw: Draw, period_s: int, stream: int, *, timed: bool) -> tuple[int, float]:
    """Count the onsets in one stream, and the mean share of features with a verdict.

    Without times the reference is an even sample of a long history, in no order. The seed is ``[stream, timed, 7]``.
    """
    rng = np.random.default_rng([stream, timed, 7])
    rows = WINDOW + STEP * (LOOKS - 1)
    history = REFERENCE_ROWS if timed else 10 * REFERENCE_ROWS
    drawn = draw(rng, history + rows)
    times = np.arange(history + rows, dtype=np.int64) * period_s * SECOND
    kept = np.arange(history) if timed else rng.permutation(history)[:REFERENCE_ROWS]
    reference = reference_of(drawn[:, kept], times[:history] if timed else None)
    watched, wider = list(reference.features), reference.inflations(WINDOW)[:FEATURES]
    before: list[Any] = [None] * FEATURES
    found, shares, was_open = 0, [], False
    for start in range(history, history + rows - WINDOW + 1, STEP):
        part = slice(start, start + WINDOW)
        season = choose(watched, reference.cycles[:FEATURES], reference.times, times[part])
        compared = compare_all(season.columns, list(drawn[:, part]), [], wider)
        before = list(judge(Look(Limits(BUDGET), f"{start:09}", f"{start + WINDOW - 1:09}"), compared, before))
        statuses = [entry["status"] for entry in before]
        found += "drift" in statuses and not was_open
        was_open = "drift" in statuses
        shares.append(np.mean([status in ("stable", "drift") for status in statuses]))
    return found, float(np.mean(shares))


def table(names: Sequence[str], streams: int) -> Iterator[str]:
    """Write onsets as multiples of the budget."""
    yield f"{streams} streams of {LOOKS} looks, {FEATURES} features, a budget of one in {1 / BUDGET:,.0f} looks."
    yield ""
    yield "| rows | times | onsets | onsets / budget | features with a verdict |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for name in names:
        draw, period_s = scenarios()[name]
        for timed in (True, False):
            counts = np.array([onsets(draw, period_s, stream, timed=timed) for stream in range(streams)])
            total, share = counts[:, 0].sum(), counts[:, 1].mean()
            ratio = total / (streams * LOOKS * BUDGET)
            yield f"| {name} | {'yes' if timed else 'no'} | {total:.0f} | {ratio:.2f} | {share:.0%} |"


def main() -> None:
    """Measure the chosen scenarios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--only", nargs="*", default=list(scenarios()))
    chosen = parser.parse_args()
    for line in table(chosen.only, chosen.streams):
        print(line, flush=True)


if __name__ == "__main__":
    main()
