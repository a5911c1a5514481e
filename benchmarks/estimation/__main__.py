"""``python -m benchmarks.estimation [WORLD …] [--repetitions N]``: the rows of the table in the README."""

from __future__ import annotations

import argparse
import time

import numpy as np

from app.monitoring.estimation.classification import Confidence
from app.monitoring.estimation.samples import measure_shift
from app.monitoring.performance.metrics import metrics
from benchmarks.estimation.plain import plain
from benchmarks.estimation.worlds import WORLDS, World, windows

METRICS = ("accuracy", "roc_auc")


def measure(world: World, repetitions: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """For each window: strength; absolute errors (plain, ours) by metric; whether bands held the truth; seconds."""
    strengths, errors, held, seconds = [], [], [], 0.0
    for strength, reference, window in windows(world, repetitions, seed):
        answers = window.answers
        truth = metrics(answers.schema, answers.outcomes, answers.predictions, answers.probabilities)
        started = time.process_time()
        found = Confidence(reference, window, measure_shift(reference.inputs, window.inputs)).measured()
        seconds += time.process_time() - started
        theirs = plain(reference, window)
        actual = np.array([truth[name] for name in METRICS], dtype=np.float64)
        ours = np.array([found[name].value for name in METRICS], dtype=np.float64)
        bounds = np.array([each.bounds(0.95) for name in METRICS if (each := found[name].interval)])
        strengths.append(strength)
        errors.append([np.abs([theirs[name] for name in METRICS] - actual), np.abs(ours - actual)])
        held.append((bounds[:, 0] <= actual) & (actual <= bounds[:, 1]))
    return np.array(strengths), np.array(errors), np.array(held), seconds / repetitions


def row(name: str, part: str, errors: np.ndarray, held: np.ndarray) -> str:
    """One line of the table."""
    means = errors.mean(axis=0)
    cells = []
    for place in range(len(METRICS)):
        theirs, ours = means[:, place]
        cells.append(f"{theirs:.4f} | {ours:.4f} | {ours / theirs - 1:+.0%} | {held[:, place].mean():.0%}")
    return f"| {name} | {part} | {len(errors)} | {' | '.join(cells)} |"


def main() -> None:
    """Print the lines of the chosen worlds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("worlds", nargs="*", default=list(WORLDS))
    parser.add_argument("--repetitions", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    for name in chosen.worlds:
        strengths, errors, held, seconds = measure(WORLDS[name], chosen.repetitions, chosen.seed)
        for part, rows in (("still", strengths == 0), ("shifted", strengths > 0)):
            print(row(name, part, errors[rows], held[rows]), flush=True)
        print(f"<!-- {name}: {seconds:.2f} s of CPU per estimate -->", flush=True)


if __name__ == "__main__":
    main()
