"""A classifier's performance is estimated from its confidence, and follows the truth when the input shifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.estimation.classification import Confidence, Expected
from app.monitoring.estimation.samples import Sample, measure_shift
from app.monitoring.performance.metrics import metrics
from app.monitoring.performance.scoring import Scored
from app.types import ModelSchema
from tests.support.monitoring.labelled_windows import binary, draw, multiclass
from tests.support.monitoring.unlabelled_windows import BINARY, MULTICLASS, held, sample

SCHEMAS = [binary(), binary(("a", "b"), "a"), multiclass(3), multiclass(5)]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("unsaid", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_certain_outcomes_give_the_realised_metrics(schema: ModelSchema, tied: bool, unsaid: bool) -> None:
    """For outcomes that are known, every metric equals the realised one, ties included."""
    classes = len(schema.classes)
    outcomes, said, shares = draw(classes, 400, seed=1)
    if tied:
        shares = np.random.default_rng(2).multinomial(64, shares) / 64
    if unsaid:
        said = np.minimum(said, classes - 2)
    answers = Scored(schema, outcomes, said, shares)
    found, realised = Expected(answers).metrics(np.eye(classes)[outcomes]), metrics(schema, outcomes, said, shares)

    undefined = {name for name, value in found.items() if np.isnan(value)}

    assert undefined == {name for name in found if realised[name] is None}
    assert {name: found[name] for name in found.keys() - undefined} == pytest.approx(
        {name: realised[name] for name in found.keys() - undefined}, abs=1e-9
    )
    assert realised.keys() - found.keys() == {"calibration_error"}


@pytest.mark.parametrize("schema", SCHEMAS[1:3])
def test_uncertain_outcomes_give_the_mean(schema: ModelSchema) -> None:
    """For a belief, each metric is close to the mean over outcomes drawn from it."""
    classes = len(schema.classes)
    _, said, shares = draw(classes, 600, seed=2)
    expected = Expected(Scored(schema, np.full(600, -1), said, shares))
    rng = np.random.default_rng(3)
    drawn = [
        expected.metrics(np.eye(classes)[(shares.cumsum(axis=1) < rng.random((600, 1))).sum(axis=1)])
        for _ in range(200)
    ]
    means = {name: np.mean([each[name] for each in drawn]) for name in drawn[0]}

    assert expected.metrics(shares) == pytest.approx(means, abs=0.01)


def test_counts_repeat_rows() -> None:
    """A row that counts twice is the same as that row twice."""
    outcomes, said, shares = draw(2, 50, seed=4)
    belief, counts = shares, np.arange(50) % 3
    again = np.repeat(np.arange(50), counts)
    repeated = Expected(Scored(binary(), outcomes[again], said[again], shares[again])).metrics(belief[again])

    assert Expected(Scored(binary(), outcomes, said, shares)).metrics(
        belief, counts.astype(np.float64)
    ) == pytest.approx(repeated)


def test_the_order_of_rows_changes_no_estimate() -> None:
    """Reference rows, their weights and the window's rows in another order give the same weighted estimate."""
    rng = np.random.default_rng(6)
    ours, theirs = (_drawn_sample(each, 1_000, rng) for each in (0.0, 0.8))
    shift = measure_shift(ours.inputs, theirs.inputs)
    mine, other = rng.permutation(1_000), rng.permutation(1_000)
    moved = replace(shift, weights=shift.weights[mine], unseen=shift.unseen[other])
    found = Confidence(_reordered(ours, mine), _reordered(theirs, other), moved).measured()
    expected = Confidence(ours, theirs, shift).measured()

    assert shift.shifted
    assert {name: each.value for name, each in found.items()} == pytest.approx(
        {name: each.value for name, each in expected.items()}, abs=0.003
    )


def _drawn_sample(centre: float, rows: int, rng: np.random.Generator) -> Sample:
    inputs = rng.normal(centre, 1.0, (rows, 2))
    score = 1 / (1 + np.exp(-inputs[:, 0]))
    truth = (rng.random(rows) < 1 / (1 + np.exp(-inputs.prod(axis=1)))).astype(np.int64)
    answers = Scored(binary(), truth, (score > 0.5).astype(np.int64), np.column_stack([1 - score, score]))
    return Sample(inputs, np.zeros(rows, dtype=np.bool_), answers)


def _reordered(rows: Sample, order: NDArray[np.intp]) -> Sample:
    return Sample(rows.inputs[order], rows.strange[order], rows.answers.only(order))


def test_what_is_undefined_is_not_a_number() -> None:
    """Without a positive answer there is no precision, and without a negative outcome no ROC AUC; the rest stays."""
    answers = Scored(binary(), np.array([1, 1]), np.array([0, 0]), np.array([[0.6, 0.4], [0.7, 0.3]]))
    found = Expected(answers).metrics(np.array([[0.0, 1.0], [0.0, 1.0]]))
    undefined = {name for name, value in found.items() if np.isnan(value)}

    assert undefined == {"precision", "specificity", "roc_auc"}


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
