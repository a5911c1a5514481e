"""A regression model's errors are estimated by a model of them, and follow the truth when the input shifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.monitoring.estimation.regression import LossModel
from app.monitoring.estimation.samples import Sample, measure_shift
from app.monitoring.performance.metrics import metrics
from app.monitoring.performance.scoring import Scored
from tests.support.monitoring.unlabelled_windows import REGRESSION, held, sample


def estimate(reference: Sample, window: Sample) -> LossModel:
    """Estimate a window's performance."""
    return LossModel(reference, window, measure_shift(reference.inputs, window.inputs))


def realised(answers: Scored) -> dict[str, float | None]:
    """Measure it."""
    return metrics(answers.schema, answers.outcomes, answers.predictions, None)


@pytest.mark.parametrize(("shift", "method"), [(0.0, "loss-model"), (1.0, "importance-weighted-loss-model")])
def test_errors_are_close_to_the_truth(shift: float, method: str) -> None:
    """Errors that depend on the input are estimated, with and without a shift; the baseline alone would be off."""
    reference, window = sample(REGRESSION, 4000, 1), sample(REGRESSION, 3000, 2, shift)
    found = estimate(reference, window)
    values, truth, before = found.measured(), realised(window.answers), realised(reference.answers)

    assert found.method == method
    assert values["mae"].value == pytest.approx(truth["mae"], rel=0.06)
    assert values["rmse"].value == pytest.approx(truth["rmse"], rel=0.06)
    assert values["bias"].value == pytest.approx(truth["bias"], abs=0.06)
    assert shift == 0 or (before["mae"] or 0) < 0.85 * (truth["mae"] or 0)


def test_bands_hold_the_truth() -> None:
    """The 95 % band holds the realised error of the same rows in most of many shifted windows."""
    draws = [(sample(REGRESSION, 800, 200 + seed), sample(REGRESSION, 400, 100 + seed, 0.5)) for seed in range(6)]
    found = held(((estimate(*pair).measured(), pair[1].answers) for pair in draws), "mae", "rmse", "bias")

    assert min(found.values()) >= 0.8, found


def test_percentages_need_outcomes_away_from_zero() -> None:
    """MAPE is estimated where every outcome is far from 0, and left out where one is not."""
    reference, window = sample(REGRESSION, 500, 1), sample(REGRESSION, 300, 2)
    far = replace(reference, answers=replace(reference.answers, outcomes=np.abs(reference.answers.outcomes) + 1))

    assert "mape" in estimate(far, window).measured()
    one_zero = np.append(0.0, far.answers.outcomes[1:])
    near = replace(far, answers=replace(far.answers, outcomes=one_zero))
    assert "mape" not in estimate(near, window).measured()


def test_parts_of_a_window() -> None:
    """An estimate of all rows is that of the window, and a part has its own."""
    found = estimate(sample(REGRESSION, 500, 1), sample(REGRESSION, 400, 2))
    whole = {name: each.value for name, each in found.measured().items()}

    assert found.values(np.ones(400, dtype=np.bool_)) == whole
    assert found.values(np.arange(400) < 200) != whole
