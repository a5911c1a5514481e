"""Labels that are no random part of the rows raise no false alarm; what they tell is told, the rest is withheld."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.performance.degradation import Degradation
from app.monitoring.reference.reference import Reference
from tests.support.monitoring.labelled_windows import binary, reference_of, report, window_of

LIMITS = Degradation(alpha=7e-6)


class Drawn(NamedTuple):
    """Rows of a window, with a number between 0 and 1 for each that decides on its label."""

    score: NDArray[Any]
    said: NDArray[Any]
    truth: NDArray[Any]
    chance: NDArray[Any]


def answered(rows: int, seed: int, flipped: float = 0.0) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Scores, answers and truths of a calibrated model; some truths are flipped."""
    rng = np.random.default_rng(seed)
    score = rng.beta(0.5, 0.9, rows)
    truth = (rng.random(rows) < score) ^ (rng.random(rows) < flipped)
    return score, (score > 0.5).astype(int), truth.astype(int)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Ten thousand rows of the same model."""
    score, said, truth = answered(10_000, seed=0)
    return reference_of(binary(), truth.tolist(), said.tolist(), probabilities=np.column_stack([1 - score, score]))


def judged(
    reference: Reference,
    labelled: Callable[[Drawn], NDArray[Any]],
    seed: int,
    flipped: float = 0.0,
    rows: int = 2_000,
    **others: Any,
) -> Any:
    """The report on a window whose labels were selected by ``labelled``."""
    score, said, truth = answered(rows, seed, flipped)
    there = labelled(Drawn(score, said, truth, np.random.default_rng(seed + 1_000).random(rows)))
    outcomes = [int(each) if has else None for each, has in zip(truth, there, strict=True)]
    shares = [(1 - each, each) for each in score.tolist()]
    return report(window_of(said.tolist(), outcomes, probabilities=shares, **others), reference, limits=LIMITS)


SELECTIONS: dict[str, Callable[[Drawn], NDArray[Any]]] = {
    "approved alone": lambda drawn: drawn.said == 0,
    "positives at once": lambda drawn: drawn.truth == 1,
    "negatives alone": lambda drawn: drawn.truth == 0,
    "a random tenth": lambda drawn: drawn.chance < 0.1,
    "sure ones": lambda drawn: drawn.chance < np.where(abs(drawn.score - 0.5) > 0.3, 0.9, 0.1),
    "doubtful ones": lambda drawn: drawn.chance < np.where(abs(drawn.score - 0.5) < 0.2, 0.9, 0.05),
}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_selected_labels_raise_no_alarm(reference: Reference, selection: str) -> None:
    """Whichever rows have labels, a model that is as good as before is not called degraded."""
    found = [judged(reference, SELECTIONS[selection], seed)["status"] for seed in range(100, 130)]

    assert "degraded" not in found


@pytest.mark.parametrize(("selection", "least"), [("a random tenth", 0.9), ("sure ones", 0.9)])
def test_a_true_drop_is_found_where_labels_tell(reference: Reference, selection: str, least: float) -> None:
    """A drop of far more than the allowed points is found from a part of the labels too."""
    found = [
        judged(reference, SELECTIONS[selection], seed, flipped=0.35, rows=4_000)["status"] for seed in range(200, 220)
    ]

    assert found.count("degraded") / 20 >= least


def test_weights_undo_the_selection(reference: Reference) -> None:
    """Where doubtful rows are labelled more often, weighted accuracy is that of all rows, and the interval holds it."""
    _, said, truth = answered(20_000, seed=5)
    found = judged(reference, SELECTIONS["doubtful ones"], seed=5, rows=20_000)["realised"]
    accuracy = found["metrics"]["accuracy"]

    assert found["selection"]["weighted"]
    assert accuracy["value"] == pytest.approx((said == truth).mean(), abs=0.02)
    assert accuracy["low"] < (said == truth).mean() < accuracy["high"]


def test_what_is_not_labelled_is_withheld(reference: Reference) -> None:
    """Without outcomes of rejected rows, rates over them are withheld, with the reason and what would help."""
    found = judged(reference, SELECTIONS["approved alone"], seed=7)["realised"]
    specificity, accuracy = found["metrics"]["specificity"], found["metrics"]["accuracy"]

    assert (specificity["value"], specificity["status"]) == (None, "insufficient_data")
    assert "answered with 1" in specificity["withheld"]["reason"]
    assert "at random" in specificity["withheld"]["needs"]
    assert (accuracy["low"] < 0.6, accuracy["high"] > 0.9) == (True, True)
    assert found["selection"]["coverage"]["1"]["labelled"] == 0


def test_a_loss_beyond_the_best_case_is_certain(reference: Reference) -> None:
    """Where even right answers in all unknown rows would not help, accuracy is degraded."""
    found = judged(reference, SELECTIONS["approved alone"], seed=8, flipped=0.8, rows=4_000)["realised"]["metrics"]

    assert found["accuracy"]["status"] == "degraded"


@pytest.mark.parametrize(("selection", "told"), [("positives at once", "recall"), ("negatives alone", "specificity")])
def test_one_class_tells_its_own_recall(reference: Reference, selection: str, told: str) -> None:
    """Outcomes of one class alone are not mature, and tell how many of that class are found, nothing else."""
    found = judged(reference, SELECTIONS[selection], seed=9)["realised"]

    assert not found["mature"]
    assert {name for name, metric in found["metrics"].items() if "withheld" not in metric} == {told}
    assert found["metrics"][told]["status"] == "ok"


def test_labels_of_one_segment_alone_count_by_their_share(reference: Reference) -> None:
    """A segment whose rows are labelled more often does not speak for the others."""
    channel = ["web" if row % 2 else "shop" for row in range(2_000)]
    there = np.array([each == "web" for each in channel])
    found = judged(
        reference,
        lambda drawn: drawn.chance < np.where(there, 0.9, 0.1),
        seed=10,
        segments={"channel": channel},
    )

    assert found["realised"]["selection"]["weighted"]
    assert found["status"] != "degraded"
