"""False alarms of stable streams that are looked at again and again: how many onsets for each one that is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import statistics
from app.monitoring.check_request import Limits
from app.monitoring.drift.column_tests import ORDER_SHARE, compare
from app.monitoring.drift.verdict import Look, judge
from app.monitoring.reference.columns import ReferenceColumn
from benchmarks.drift.draws import laws, reference_of

WINDOW, STEP, REFERENCE_ROWS = 1000, 100, 10_000
HELD = WINDOW // STEP - 1
"""Looks for which an alarm stays open after the last significant one."""


@dataclass(frozen=True)
class Scenario:
    """So many streams of so many looks at so many features, each of one law."""

    name: str
    features: int
    streams: int
    looks: int
    law: str
    ranks: bool = False
    """Whether only the tests of order are simulated, many looks at once: the law is continuous and rows independent."""


def scenarios(share: float) -> list[Scenario]:
    """All scenarios, with this share of their streams."""

    def streams(count: int) -> int:
        return max(round(count * share), 2)

    return [
        Scenario("20 features", 20, streams(200), 1000, "normal", ranks=True),
        Scenario("1 feature", 1, streams(400), 1000, "normal", ranks=True),
        Scenario("200 features", 200, streams(10), 1000, "normal", ranks=True),
        Scenario("1 feature, every statistic", 1, streams(50), 1000, "normal"),
        Scenario("1 feature, heavy tails", 1, streams(50), 1000, "Student t, 2"),
        Scenario("1 feature, ties", 1, streams(50), 1000, "Poisson 20"),
        Scenario("1 feature, 10 % missing", 1, streams(50), 1000, "10 % missing"),
        Scenario("1 feature, categories", 1, streams(50), 1000, "50 categories, Zipf"),
        Scenario("1 feature, AR(1) 0.8", 1, streams(50), 1000, "AR(1) 0.8"),
    ]


def onsets(scenario: Scenario, stream: int, budget: float) -> int:
    """Count the alarms of one stream with a fresh reference."""
    rng = np.random.default_rng([len(scenario.name), stream])
    significant = (_by_ranks if scenario.ranks else _by_verdict)(scenario, rng, budget)
    looks = np.flatnonzero(significant)
    return int(np.sum(np.diff(looks, prepend=-WINDOW) > HELD))


def _by_verdict(scenario: Scenario, rng: np.random.Generator, budget: float) -> NDArray[np.bool_]:
    """Look by look, with the code that judges: which looks are significant and material."""
    rows = WINDOW + STEP * (scenario.looks - 1)
    draw = laws()[scenario.law]
    columns = [(draw(rng, REFERENCE_ROWS), draw(rng, rows)) for _ in range(scenario.features)]
    references = [reference_of(ours) for ours, _ in columns]
    look = Look(Limits(alpha=budget), "", "")
    nothing: list[Any | None] = [None] * scenario.features
    found = []
    for start in range(0, rows - WINDOW + 1, STEP):
        windows = [theirs[start : start + WINDOW] for _, theirs in columns]
        compared = [compare(reference, window) for reference, window in zip(references, windows, strict=True)]
        found.append(any(entry.get("significant") for entry in judge(look, compared, nothing)))
    return np.array(found)


def _by_ranks(scenario: Scenario, rng: np.random.Generator, budget: float) -> NDArray[np.bool_]:
    """All looks at once: the p-values of the tests of order, then Benjamini-Hochberg and the material effect."""
    rows = WINDOW + STEP * (scenario.looks - 1)
    draw, columns = laws()[scenario.law], []
    p_values = np.empty((scenario.features, scenario.looks))
    for feature in range(scenario.features):
        reference = reference_of(draw(rng, REFERENCE_ROWS))
        values = draw(rng, rows)
        places = np.searchsorted(reference.present, values).astype(np.int16)
        windows = np.lib.stride_tricks.sliding_window_view(places, WINDOW)[::STEP]
        ranks = np.sort(windows, axis=1).astype(np.int64) + np.arange(1, WINDOW + 1)
        shift = statistics.anderson_darling_p_value(statistics.anderson_darling(ranks, REFERENCE_ROWS))
        scale = statistics.mood_p_value(statistics.mood_z(ranks, REFERENCE_ROWS), REFERENCE_ROWS, WINDOW)
        p_values[feature] = np.minimum(shift / ORDER_SHARE, scale / (1 - ORDER_SHARE))
        columns.append((reference, values if (p_values[feature] <= budget).any() else None))
    significant = np.zeros(scenario.looks, dtype=np.bool_)
    for look in np.flatnonzero(p_values.min(axis=0) <= budget).tolist():
        adjusted = statistics.benjamini_hochberg(p_values[:, look])
        significant[look] = any(_is_material(*columns[place], look) for place in np.flatnonzero(adjusted <= budget))
    return significant


def _is_material(reference: ReferenceColumn, values: NDArray[np.float64] | None, look: int) -> bool:
    if values is None:
        return False
    window = np.sort(values[look * STEP : look * STEP + WINDOW])
    counts = reference.count(window, window)
    effect = statistics.psi(reference.counts, counts) - statistics.psi_noise_floor(reference.counts, counts)
    return effect >= Limits(alpha=0.0).material_psi


def table(results: Sequence[tuple[Scenario, Sequence[int]]], budget: float) -> Iterator[str]:
    """Write onsets as multiples of the budget, with 95 % intervals bootstrapped over streams."""
    yield (
        f"Rolling windows of {WINDOW:,}, a look every {STEP} rows, a fresh reference of {REFERENCE_ROWS:,} for each "
        f"stream, budget one alarm in {1 / budget:,.0f} looks."
    )
    yield ""
    yield "| scenario | streams | looks each | onsets | onsets / budget | 95 % interval |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for scenario, counts in results:
        found, rng = np.array(counts), np.random.default_rng(1)
        draws = rng.choice(found, (4000, len(found))).mean(axis=1) / (scenario.looks * budget)
        low, high = np.quantile(draws, (0.025, 0.975))
        ratio = found.mean() / (scenario.looks * budget)
        line = f"| {scenario.name} | {scenario.streams:,} | {scenario.looks:,} | {found.sum():,} "
        yield f"{line}| {ratio:.2f} | {low:.2f}-{high:.2f} |"
