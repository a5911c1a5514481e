"""Unusual rows measured: planted rows found, honesty in clean windows, and time; three ways to score rows.

``python -m benchmarks.drift.unusual`` prints Markdown tables; all draws have the seeds that stand below.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import signal
from sklearn.ensemble import IsolationForest

from app.monitoring.drift.design_matrix import design
from app.monitoring.drift.unusual_rows import RATE, score_rows
from app.monitoring.reference.columns import ReferenceColumn, Subject

Columns: TypeAlias = list[NDArray[Any]]
Rng: TypeAlias = np.random.Generator
REFERENCE_ROWS, ROWS, PLANTED, SEEDS = 4000, 1000, 10, 10
CLEAN_WINDOWS = 40
COLOURS = ("red", "green", "blue", "grey")
SUBJECTS = [*(Subject(f"x{place}", "numeric") for place in range(12)), Subject("flag", "boolean")]
SUBJECTS += [Subject("colour", "categorical", COLOURS), Subject("shade", "categorical", COLOURS)]


def clean(rng: Rng, rows: int) -> Columns:
    """Twelve numbers, correlated, heavy-tailed, tied and missing, a flag, and two categories of which one follows."""
    common = rng.normal(size=rows)
    numbers = [0.95 * common + 0.31 * rng.normal(size=rows) for _ in range(3)]
    numbers += [rng.standard_t(3, size=rows) for _ in range(2)] + [rng.lognormal(size=rows) for _ in range(2)]
    numbers += [rng.poisson(2, size=rows).astype(float), np.round(rng.normal(size=rows), 1)]
    numbers += [np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)) for _ in range(3)]
    colour = rng.choice(4, size=rows, p=[0.4, 0.3, 0.2, 0.1]).astype(np.int32)
    flag = (rng.random(rows) < 0.02).astype(float)
    return [*numbers, flag, colour, colour.copy()]


def chains(rng: Rng, rows: int) -> Columns:
    """The same, where each number follows its own past by 0.8."""
    found = clean(rng, rows)
    steps = signal.lfilter([1.0], [1.0, -0.8], rng.normal(size=(12, rows + 100)))[:, 100:]
    return [*steps, *found[12:]]


def far_value(rng: Rng, columns: Columns, rows: NDArray[np.int64]) -> None:
    """One number of each row is eight standard deviations away."""
    for row in rows:
        columns[rng.choice([0, 1, 2, 8, 9])][row] = 8.0


def broken_correlation(rng: Rng, columns: Columns, rows: NDArray[np.int64]) -> None:
    """One of three numbers that move together has the other sign, by 1.5 standard deviations."""
    signs = rng.choice([-1.5, 1.5], size=len(rows))
    columns[0][rows], columns[1][rows], columns[2][rows] = signs, -signs, signs


def impossible_combination(_rng: Rng, columns: Columns, rows: NDArray[np.int64]) -> None:
    """Two categories that always are equal differ, each of them a usual one."""
    columns[13][rows], columns[14][rows] = 0, 1


def new_category(_rng: Rng, columns: Columns, rows: NDArray[np.int64]) -> None:
    """A category that nobody has seen."""
    columns[13][rows] = -2


KINDS: tuple[Callable[[Rng, Columns, NDArray[np.int64]], None], ...] = (
    far_value,
    broken_correlation,
    impossible_combination,
    new_category,
)


def watched(subjects: list[Subject], columns: Columns) -> list[ReferenceColumn]:
    """The columns as those of a reference."""
    return [ReferenceColumn(*pair) for pair in zip(subjects, columns, strict=True)]


def conditional(reference: Columns, window: Columns) -> NDArray[np.float64]:
    """The score of the service."""
    return score_rows(watched(SUBJECTS, reference), window).score


def forest(reference: Columns, window: Columns) -> NDArray[np.float64]:
    """An isolation forest of the reference, with categories as their codes."""
    fitted = IsolationForest(random_state=0, n_estimators=200).fit(np.nan_to_num(np.column_stack(reference)))
    return np.asarray(-fitted.score_samples(np.nan_to_num(np.column_stack(window))))


def classifier(reference: Columns, window: Columns) -> NDArray[np.float64]:
    """The score of the joint test: a ridge regression of the side, of each half by the other."""
    table = design(SUBJECTS, [np.concatenate(pair) for pair in zip(reference, window, strict=True)])
    label = np.repeat([0.0, 1.0], [len(reference[0]), len(window[0])])
    fold, scores = np.arange(len(label)) % 2, np.zeros(len(label))
    for number in (0, 1):
        known = fold != number
        full = table.with_products(label, known).values
        x, y = full[known], label[known] - label[known].mean()
        scores[~known] = full[~known] @ np.linalg.solve(x.T @ x + 10.0 * np.eye(x.shape[1]), x.T @ y)
    return scores[len(reference[0]) :]


METHODS: Mapping[str, Callable[[Columns, Columns], NDArray[np.float64]]] = {
    "given the other features": conditional,
    "isolation forest": forest,
    "domain classifier": classifier,
}


def precision(kind: Callable[[Rng, Columns, NDArray[np.int64]], None]) -> dict[str, float]:
    """The share of planted rows among as many rows of the highest scores, by method."""
    found = dict.fromkeys(METHODS, 0.0)
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        reference, window = clean(rng, REFERENCE_ROWS), clean(rng, ROWS)
        planted = rng.choice(ROWS, PLANTED, replace=False)
        kind(rng, window, planted)
        for name, method in METHODS.items():
            top = np.argsort(-method(reference, window), kind="stable")[:PLANTED]
            found[name] += len(np.intersect1d(top, planted)) / (PLANTED * SEEDS)
    return found


def honesty(draw: Callable[[Rng, int], Columns], rows: int) -> tuple[float, float]:
    """The rate that is stated, and the share of rows of clean windows that are called unusual."""
    rate, called = max(RATE, 1 / (rows + 1)), 0.0
    for seed in range(CLEAN_WINDOWS):
        drawn = draw(np.random.default_rng(seed + 1000), rows + ROWS)
        parts = [column[:rows] for column in drawn], [column[rows:] for column in drawn]
        called += float(np.mean(score_rows(watched(SUBJECTS, parts[0]), parts[1]).p_values <= rate)) / CLEAN_WINDOWS
    return rate, called


def tables() -> Iterator[str]:
    """Everything as Markdown."""
    yield f"precision at {PLANTED}, {PLANTED} planted rows in {ROWS}, {SEEDS} seeds\n"
    yield f"| planted | {' | '.join(METHODS)} |\n| --- |{' --- |' * len(METHODS)}"
    for kind in KINDS:
        shares = " | ".join(f"{share:.2f}" for share in precision(kind).values())
        yield f"| {kind.__name__.replace('_', ' ')} | {shares} |"
    yield "\n| clean windows | reference rows | stated rate | called unusual |\n| --- | --- | --- | --- |"
    for draw in (clean, chains):
        for rows in (200, 1000, REFERENCE_ROWS):
            rate, called = honesty(draw, rows)
            yield f"| {draw.__name__} | {rows} | {rate:.4f} | {called:.4f} |"
    rng = np.random.default_rng(0)
    reference, window = list(rng.normal(size=(100, 10_000))), list(rng.normal(size=(100, 10_000)))
    start = time.process_time()
    score_rows(watched([Subject(str(place), "numeric") for place in range(100)], reference), window)
    yield f"\n10,000 rows of 100 features against 10,000: {time.process_time() - start:.1f} s of a processor"
    start = time.process_time()
    IsolationForest(random_state=0, n_estimators=200).fit(np.column_stack(reference)).score_samples(
        np.column_stack(window)
    )
    yield f"isolation forest: {time.process_time() - start:.1f} s"


if __name__ == "__main__":
    for line in tables():
        print(line, flush=True)
