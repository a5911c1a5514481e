"""Windows of five worlds whose input has shifted, after ten windows whose outcomes came.

``python -m benchmarks.estimation.stream --peer PYTHON`` prints a Markdown table. PYTHON is an interpreter that has
NannyML, whose CBPE and DLE (in their classes' own settings) see the same reference and the same window. Ours sees the
ten windows with outcomes too, as the service does. The seed of a stream is its number.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from app.monitoring.estimation.report import estimated
from app.monitoring.performance.degradation import Degradation
from app.monitoring.performance.metrics import metrics
from app.monitoring.reference.reference import Reference
from app.statistics import FloatArray
from app.store.queries.windows import Window
from app.types import SECOND, Feature, FeatureType, Micros, ModelSchema, Task

FITTED, REFERENCE_ROWS, ROWS, LABELLED, FEATURES = 5_000, 10_000, 1_000, 10, 4
STRIKING = {Task.BINARY: ("accuracy", "roc_auc"), Task.REGRESSION: ("mae", "rmse")}
PEER = Path(__file__).with_name("nannyml_estimates.py")


class World(NamedTuple):
    """What shifts in the input, and whether the relation changes too."""

    centre: float
    spread: float
    tilt: float
    changed: bool


WORLDS: Mapping[str, World] = {
    "centre moves": World(0.8, 1.0, 0.0, changed=False),
    "spread grows": World(0.0, 1.5, 0.0, changed=False),
    "two features become correlated": World(0.0, 1.0, 0.7, changed=False),
    "centre moves, relation changes": World(0.8, 1.0, 0.0, changed=True),
    "spread grows, relation changes": World(0.0, 1.5, 0.0, changed=True),
}
Draw = tuple[FloatArray, FloatArray]
Rows = tuple[FloatArray, FloatArray]
Model = Callable[[FloatArray], FloatArray]


def draw(task: Task, world: World | None, rows: int, rng: np.random.Generator) -> Draw:
    """Draw inputs and outcomes; without a world, as the model learned them."""
    inputs = rng.normal(size=(rows, FEATURES))
    changed = world is not None and world.changed
    if world is not None:
        inputs[:, 1] = world.tilt * inputs[:, 0] + np.sqrt(1 - world.tilt**2) * inputs[:, 1]
        inputs[:, :2] = world.centre + world.spread * inputs[:, :2]
    signal = inputs[:, 0] + np.sin(2 * inputs[:, 1]) + 0.5 * inputs[:, 0] * inputs[:, 1]
    signal = signal + (1.2 * inputs[:, 2] if changed else 0.0)
    if task is Task.REGRESSION:
        return inputs, 10 + signal + rng.normal(0, 0.3 + 0.3 * np.abs(inputs[:, 1]))
    return inputs, (rng.random(rows) < 1 / (1 + np.exp(-1.5 * signal))).astype(np.float64)


def fitted(task: Task, rng: np.random.Generator) -> Model:
    """Fit a model: a line that the relation is not, or trees."""
    inputs, outcomes = draw(task, None, FITTED, rng)
    if task is Task.REGRESSION:
        trees: Model = HistGradientBoostingRegressor(max_iter=50).fit(inputs, outcomes).predict
        return trees
    linear = LogisticRegression().fit(inputs, outcomes)
    return lambda rows: np.asarray(linear.predict_proba(rows)[:, 1])


def schema_of(task: Task) -> ModelSchema:
    """Name the features, and the classes where there are some."""
    features = tuple(Feature(f"x{place}", FeatureType.NUMERIC) for place in range(FEATURES))
    return ModelSchema("m", "1", task, features, *(((), None) if task is Task.REGRESSION else ((0, 1), 1)))


def reference_of(task: Task, inputs: FloatArray, outcomes: FloatArray, score: FloatArray) -> Reference:
    """Make a reference of rows that the model has not seen."""
    columns = [column.copy() for column in inputs.T]
    if task is Task.REGRESSION:
        return Reference(schema_of(task), columns, score, None, outcomes, sha256="made")
    both, said = np.column_stack([1 - score, score]), (score >= 0.5).astype(np.int32)
    return Reference(schema_of(task), columns, said, both, outcomes.astype(np.int32), sha256="made")


def window_of(task: Task, inputs: FloatArray, outcomes: FloatArray, score: FloatArray, *, known: bool) -> Window:
    """Make a window of one row a second, with or without its outcomes."""
    regression, count = task is Task.REGRESSION, len(inputs)
    times = [Micros(row * SECOND) for row in range(count)]
    said = score if regression else (score >= 0.5).astype(np.int64)
    truth = (outcomes if regression else outcomes.astype(np.int64)).tolist()
    return Window(
        list(map(str, range(count))),
        list(map(tuple, inputs.tolist())),
        said.tolist(),
        [None if regression else (1 - each, each) for each in score.tolist()],
        times,
        count,
        1.0,
        truth if known else [None] * count,
        [None] * count,
        list(times) if known else [None] * count,
    )


def truth_of(task: Task, outcomes: FloatArray, score: FloatArray) -> FloatArray:
    """Give the realised metrics of a window."""
    if task is Task.REGRESSION:
        found = metrics(schema_of(task), outcomes, score, None)
    else:
        both, said = np.column_stack([1 - score, score]), (score >= 0.5).astype(np.int64)
        found = metrics(schema_of(task), outcomes.astype(np.int64), said, both)
    return np.array([found[name] for name in STRIKING[task]], dtype=np.float64)


def peers(python: str, task: Task, rows: Sequence[Rows]) -> FloatArray:
    """Ask NannyML for its estimates of all streams, in a process of its own interpreter."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{place}.npz" for place in range(len(rows))]
        for path, (reference, window) in zip(paths, rows, strict=True):
            np.savez(path, reference=reference, window=window)
        command = [python, "-W", "ignore", str(PEER), task.value, *map(str, paths)]
        quiet = os.environ | {"NML_DISABLE_USAGE_LOGGING": "1"}  # it would tell its makers of each use
        found = subprocess.check_output(command, text=True, env=quiet)
    return np.array(json.loads(found.splitlines()[-1]), dtype=np.float64)


def stream(task: Task, world: World, seed: int) -> tuple[Rows, FloatArray]:
    """Give the rows that the peer sees, and of each metric our estimate, bounds and the truth."""
    rng = np.random.default_rng([seed, list(WORLDS.values()).index(world), task is Task.REGRESSION])
    model = fitted(task, rng)
    inputs, outcomes = draw(task, None, REFERENCE_ROWS, rng)
    older, came = draw(task, world, LABELLED * ROWS, rng)
    latest, later = draw(task, world, ROWS, rng)
    reference = reference_of(task, inputs, outcomes, model(inputs))
    report = estimated(
        reference.schema,
        reference,
        window_of(task, latest, later, model(latest), known=False),
        window_of(task, older, came, model(older), known=True),
        Degradation(),
    )
    if report["reason"] is not None:
        raise SystemExit(report["reason"])
    found = [[report["metrics"][name][part] for name in STRIKING[task]] for part in ("value", "low", "high")]
    rows = np.column_stack([inputs, outcomes, model(inputs)]), np.column_stack([latest, model(latest)])
    return rows, np.array([*found, truth_of(task, later, model(latest))], dtype=np.float64)


def lines(task: Task, streams: int, python: str) -> Iterator[str]:
    """Give a line for each world and metric, and the mean of the ratios."""
    ratios, shares = [], []
    for name, world in WORLDS.items():
        found = [stream(task, world, seed) for seed in range(streams)]
        value, low, high, truth = np.array([ours for _, ours in found]).transpose(1, 0, 2)
        theirs = np.abs(peers(python, task, [rows for rows, _ in found]) - truth).mean(axis=0)
        errors, held = np.abs(value - truth).mean(axis=0), ((low <= truth) & (truth <= high)).mean(axis=0)
        ratios.extend(errors / theirs)
        shares.extend(held)
        for metric, *each in zip(STRIKING[task], theirs, errors, errors / theirs, held, strict=True):
            yield f"| {name} | {metric} | {streams} | {each[0]:.4f} | {each[1]:.4f} | {each[2]:.2f} | {each[3]:.0%} |"
    yield f"| all, {task.value} | | {streams} | | | {np.mean(ratios):.2f} | {np.mean(shares):.0%} |"


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--peer", required=True, help="interpreter that has NannyML")
    parser.add_argument("--task", choices=("binary", "regression"), nargs="*", default=["binary", "regression"])
    chosen = parser.parse_args()
    print("| world | metric | streams | NannyML | ours | ratio | bands that hold |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for task in map(Task, chosen.task):
        for line in lines(task, chosen.streams, chosen.peer):
            print(line, flush=True)


if __name__ == "__main__":
    main()
