"""A classifier's performance is estimated from its confidence, and follows the truth when the input shifts."""

from __future__ import annotations

import numpy as np
import pytest

from app.monitoring.confidence import Confidence
from app.monitoring.expected import Expected
from app.monitoring.metrics import metrics
from app.monitoring.sample import Sample
from app.monitoring.scored import Scored
from app.monitoring.weighting import measure_shift
from app.types import ModelSchema
from tests.monitoring.unlabelled import BINARY, MULTICLASS, held, sample


def estimate(reference: Sample, window: Sample) -> Confidence:
    """Estimate a window's performance."""
    return Confidence(reference, window, measure_shift(reference.inputs, window.inputs))


def realised(answers: Scored) -> dict[str, float | None]:
    """Measure it."""
    return metrics(answers.schema, answers.outcomes, answers.predictions, answers.probabilities)


@pytest.mark.parametrize("schema", [BINARY, MULTICLASS])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_every_metric_is_close_to_the_truth(schema: ModelSchema, shift: float) -> None:
    """With and without a shift, each estimate lies near the realised metric, and is of the same name."""
    window = sample(schema, 3000, 2, shift)
    found, truth = estimate(sample(schema, 4000, 1), window).measured(), realised(window.answers)

    assert found.keys() == truth.keys() - {"calibration_error"}
    for name, each in found.items():
        assert each.value == pytest.approx(truth[name], abs=0.04, rel=0.06), name


@pytest.mark.parametrize("schema", [BINARY, MULTICLASS])
def test_weights_beat_plain_confidence(schema: ModelSchema) -> None:
    """Where confidence is worth less in the new region, the weighted estimate is closer than the unweighted one."""
    reference, window = sample(schema, 6000, 1), sample(schema, 4000, 2, 1.0)
    still = Confidence(reference, window, measure_shift(reference.inputs, reference.inputs))
    found, truth = estimate(reference, window), realised(window.answers)
    assert (still.method, found.method) == ("calibrated-confidence", "importance-weighted-calibrated-confidence")
    for name in ("accuracy", "roc_auc", "log_loss"):
        ours, theirs = (each.measured()[name].value for each in (found, still))

        assert abs((ours or 0) - (truth[name] or 0)) < 0.5 * abs((theirs or 0) - (truth[name] or 0)), name


def test_a_still_window_is_the_baseline_moved_by_its_mix() -> None:
    """The reference estimated by itself has its own realised metrics, so that no estimate starts with an error."""
    reference = sample(BINARY, 2000, 1)
    found, truth = estimate(reference, reference).measured(), realised(reference.answers)

    assert {name: each.value for name, each in found.items()} == pytest.approx(
        {name: truth[name] for name in found}, abs=1e-9
    )


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_bands_hold_the_truth(shift: float) -> None:
    """The 95 % band holds the realised metric of the same rows in most of many windows."""
    draws = [(sample(BINARY, 1000, 200 + seed), sample(BINARY, 300, 100 + seed, shift)) for seed in range(10)]
    found = held(((estimate(*pair).measured(), pair[1].answers) for pair in draws), "accuracy", "roc_auc", "log_loss")

    assert min(found.values()) >= 0.8, found


def test_parts_of_a_window() -> None:
    """An estimate of all rows is that of the window, and a part has its own."""
    found = estimate(sample(BINARY, 1000, 1), sample(BINARY, 600, 2))
    whole = {name: each.value for name, each in found.measured().items()}

    assert found.values(np.ones(600, dtype=np.bool_)) == whole
    assert found.values(np.arange(600) < 300) != whole


def test_honest_confidence_is_left_alone() -> None:
    """Where calibration does not help, the model's own confidence is taken, and the method says so."""
    rng = np.random.default_rng(4)
    share = rng.uniform(0.3, 0.7, (2, 80))
    ours, theirs = (
        Sample(
            each[:, np.newaxis],
            each < 0,
            Scored(BINARY, (rng.random(80) < each) * 1, (each > 0.5) * 1, np.column_stack([1 - each, each])),
        )
        for each in share
    )

    assert estimate(ours, theirs).method == "confidence"


def test_a_window_of_one_answer_is_estimated() -> None:
    """Where the model says the same to every row, what is undefined is None, without warning; the rest is there."""
    reference = sample(BINARY, 1000, 1)
    window = reference.only(reference.answers.predictions == 0)
    found = estimate(reference, window).measured()

    assert found["precision"].value is None
    assert found["accuracy"].value is not None


def test_same_rows_same_estimate() -> None:
    """Nothing is left to chance."""
    pair = sample(BINARY, 800, 1), sample(BINARY, 400, 2, 1.0)

    assert estimate(*pair).measured() == estimate(*pair).measured()
    assert Expected(pair[1].answers).metrics(np.full((400, 2), 0.5))["accuracy"] == pytest.approx(0.5)
