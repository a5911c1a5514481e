"""Realised performance on rows as people have them: errors in runs, rare positives, and labels that are chosen.

``python -m benchmarks.performance.real_rows --windows 30`` prints a Markdown table. The seed of a window is its number.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from app.monitoring.check_request import PERFORMANCE_SHARE, alpha_per_look
from app.monitoring.performance.degradation import Degradation
from app.monitoring.performance.report import performance_report
from app.monitoring.reference.reference import Judged, Reference
from app.store.queries.labelled import Labelled
from app.types import SECOND, Feature, FeatureType, Micros, ModelSchema, Task

ROWS, RUN_ROWS, REFERENCE_ROWS = 20_000, 2_000, 100_000
SCHEMA = ModelSchema("m", "1", Task.BINARY, (Feature("x", FeatureType.NUMERIC),), (0, 1), 1)
LIMITS = Degradation(alpha=alpha_per_look(60, 30 * 86_400) * PERFORMANCE_SHARE)
MONTH_S = 30 * 86_400
Flags: TypeAlias = NDArray[np.bool_]


class Drawn(NamedTuple):
    """Probabilities of the model, and truths."""

    probability: NDArray[np.float64]
    truth: NDArray[np.int64]

    @property
    def answer(self) -> NDArray[np.int64]:
        """The predicted class."""
        return (self.probability > 0.5).astype(np.int64)


def usual(rng: np.random.Generator, rows: int, drop: float = 0.0) -> Drawn:
    """Draw answers of a calibrated model, of which ``drop`` more are wrong than its accuracy says."""
    score = rng.normal(0, 2, rows)
    probability = 1 / (1 + np.exp(-score))
    truth = (rng.random(rows) < probability).astype(np.int64)
    right = truth == (probability > 0.5)
    flipped = right & (rng.random(rows) < drop / right.mean())
    return Drawn(probability, np.where(flipped, 1 - truth, truth))


def rare(rng: np.random.Generator, rows: int, separation: float) -> Drawn:
    """Draw one positive in a thousand; 2.33 standard deviations apart are an area of 0.95, 0.18 one of 0.55."""
    truth = (rng.random(rows) < 0.001).astype(np.int64)
    return Drawn(1 / (1 + np.exp(6 - rng.normal(separation * truth, 1.0))), truth)


def runs(rng: np.random.Generator, rows: int) -> Drawn:
    """Draw answers of which 90 % are right, by an autoregression of 0.9."""
    noise = rng.normal(size=rows)
    noise[0] /= np.sqrt(1 - 0.9**2)
    latent = np.asarray(lfilter([np.sqrt(1 - 0.9**2)], [1.0, -0.9], noise))
    probability = np.where(rng.random(rows) < 0.5, 0.9, 0.1)
    right = ndtr(latent) < 0.9
    return Drawn(probability, np.where(right, probability > 0.5, probability < 0.5).astype(np.int64))


def reference_of(drawn: Drawn, kept: int = 10_000) -> Reference:
    """Make a reference of some rows, whose baseline is of all."""
    both = np.column_stack([1 - drawn.probability, drawn.probability])
    judged = Judged(drawn.truth.astype(np.int32), drawn.answer.astype(np.int32), both, {}, ordered=False)
    part = slice(0, kept)
    return Reference(
        SCHEMA,
        [ndtri(np.clip(drawn.probability[part], 1e-9, 1 - 1e-9))],
        drawn.answer[part].astype(np.int32),
        both[part],
        drawn.truth[part].astype(np.int32),
        sha256="abc",
        judged=judged,
    )


def window_of(drawn: Drawn, labelled: Flags) -> Labelled:
    """Make a window of one row a second, of which some have an outcome."""
    count = len(drawn.truth)
    times = [Micros(row * SECOND) for row in range(count)]
    outcomes: list[Any] = [each if known else None for each, known in zip(drawn.truth.tolist(), labelled, strict=True)]
    came = [Micros(at + 60 * SECOND) if known else None for at, known in zip(times, labelled, strict=True)]
    probabilities: list[Any] = np.column_stack([1 - drawn.probability, drawn.probability]).tolist()
    answers: list[Any] = drawn.answer.tolist()
    return Labelled(answers, list(map(tuple, probabilities)), times, outcomes, [None] * count, came, {}, count)


def judged(reference: Reference, window: Labelled) -> Any:
    """Judge a window a month later."""
    return performance_report(SCHEMA, reference, window, LIMITS, now=Micros(2 * MONTH_S * SECOND))


SELECTIONS: Mapping[str, Callable[[np.random.Generator, Drawn], Flags]] = {
    "all labelled": lambda _, drawn: np.ones(len(drawn.truth), dtype=np.bool_),
    "random 10 %": lambda rng, drawn: np.asarray(rng.random(len(drawn.truth)) < 0.1),
    "only rows answered with 1": lambda _, drawn: np.asarray(drawn.answer == 1),
    "negatives have not come yet": lambda _, drawn: np.asarray(drawn.truth == 1),
}


def is_degraded(report: Any) -> bool:
    """Whether a realised metric is degraded."""
    return any(metric["status"] == "degraded" for metric in report["realised"]["metrics"].values())


def selection_lines(windows: int) -> Iterator[str]:
    """Count windows that are degraded with and without a true drop of ten points."""
    reference = reference_of(usual(np.random.default_rng(10**6), REFERENCE_ROWS))
    for name, choose in SELECTIONS.items():
        found = []
        for drop in (0.0, 0.1):
            streams = [np.random.default_rng([seed, round(100 * drop)]) for seed in range(windows)]
            drawn = [usual(rng, ROWS, drop) for rng in streams]
            pairs = zip(streams, drawn, strict=True)
            found.append(sum(is_degraded(judged(reference, window_of(each, choose(rng, each)))) for rng, each in pairs))
        yield f"| {name} | {windows} | {found[0]} | {found[1]} |"


def run_line(windows: int) -> str:
    """Count the intervals of accuracy that hold 0.9 where errors come in runs, and windows called degraded."""
    reference = reference_of(runs(np.random.default_rng(10**6), 100_000))
    reports = []
    for seed in range(windows):
        drawn = runs(np.random.default_rng([seed, 9]), RUN_ROWS)
        reports.append(judged(reference, window_of(drawn, np.ones(RUN_ROWS, dtype=np.bool_))))
    held = [each["realised"]["metrics"]["accuracy"] for each in reports]
    share = np.mean([each["low"] <= 0.9 <= each["high"] for each in held])
    return f"errors in runs, AR(1) 0.9, {windows} windows: {share:.1%} of 95 % intervals hold; degraded: " + str(
        sum(map(is_degraded, reports))
    )


def rare_line(windows: int) -> str:
    """Count windows of 20,000 rows in which the area of rare positives is called degraded."""
    reference = reference_of(rare(np.random.default_rng(10**6), 200_000, 2.33))
    found = []
    for separation in (2.33, 0.18):
        draws = (rare(np.random.default_rng([seed, 3]), 20_000, separation) for seed in range(windows))
        reports = [judged(reference, window_of(each, np.ones(20_000, dtype=np.bool_))) for each in draws]
        found.append(sum(each["realised"]["metrics"]["roc_auc"]["status"] == "degraded" for each in reports))
    return f"rare positives, {windows} windows of 20,000: area 0.95: {found[0]} degraded; 0.55: {found[1]} degraded"


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=30)
    windows = parser.parse_args().windows
    print("| labels | windows | degraded, nothing changed | degraded, accuracy ten points lower |")
    print("| --- | ---: | ---: | ---: |")
    for line in selection_lines(windows):
        print(line, flush=True)
    print(f"\n{run_line(10 * windows)}\n\n{rare_line(min(windows, 10))}")


if __name__ == "__main__":
    main()
