"""A shadow beside the champion: what the pairs say, and how surely."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.monitoring.performance.report import beside
from app.store.queries.labelled import Pair
from app.types import ModelSchema, Task

NUMBERS = ModelSchema("m", "2", Task.REGRESSION, ())
LABELS = ModelSchema("m", "2", Task.BINARY, (), ("no", "yes"), "yes")


def test_the_interval_is_of_the_pairs() -> None:
    """Two models with errors of the same size that share most of them differ surely, though their intervals overlap."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=400)
    shared = rng.normal(scale=2.0, size=400)
    pairs = [Pair(y + 0.9 * e, y + e, y) for y, e in zip(truth.tolist(), shared.tolist(), strict=True)]

    found: Any = beside(NUMBERS, {"1": pairs})["1"]

    expected = float(np.mean(0.1 * np.abs(shared)))
    assert abs(found["advantage"]["value"] - expected) < 1e-9
    assert 0.8 * expected < found["advantage"]["low"] < expected < found["advantage"]["high"] < 1.2 * expected
    assert found["agreement"] is None
    assert abs(found["mean_difference"] - expected) < 1e-9


def test_the_interval_covers_the_truth() -> None:
    """Of 400 windows in which neither model is better, about 95 % have an interval with 0 inside."""
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(400):
        outcome, ours, theirs = (rng.random((3, 200)) < np.array([[0.5], [0.3], [0.3]])).astype(int)
        labels = [["no", "yes"][place] for place in range(2)]
        pairs = [
            Pair(labels[y ^ a], labels[y ^ b], labels[y])
            for y, a, b in zip(outcome.tolist(), ours.tolist(), theirs.tolist(), strict=True)
        ]
        advantage: Any = beside(LABELS, {"1": pairs})["1"]["advantage"]
        covered += advantage["low"] <= 0 <= advantage["high"]

    assert 0.92 <= covered / 400 <= 0.98


def test_without_outcomes_only_the_agreement_is_known() -> None:
    """Versions that answered are kept apart, and rows without an outcome say nothing about who is right."""
    found = beside(LABELS, {"1": [Pair("yes", "yes", None), Pair("no", "yes", None)], "3": [Pair("no", "no", "no")]})

    assert found["1"] == {
        "rows": 2,
        "agreement": 0.5,
        "mean_difference": None,
        "labelled": 0,
        "advantage": None,
    }
    assert (found["3"]["agreement"], found["3"]["labelled"], found["3"]["advantage"]) == (1.0, 1, None)
