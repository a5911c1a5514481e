"""Confidence is calibrated by isotonic regression, where that helps."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from app.monitoring.estimation.calibration import Calibration, Calibrator
from app.monitoring.performance.scoring import Scored
from tests.support.monitoring.labelled_windows import multiclass


@pytest.mark.parametrize("decimals", [1, 12])
def test_the_fit_is_scikit_learns(decimals: int) -> None:
    """With ties, weights and rows that do not count, the fit is the library's weighted isotonic regression."""
    rng = np.random.default_rng(1)
    scores = rng.random(400).round(decimals)
    happened = rng.random(400) < scores
    weights, at = rng.exponential(size=400) * (rng.random(400) < 0.7), np.linspace(-0.1, 1.1, 50)
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores, happened, weights).predict(at)

    assert Calibrator.of(scores, happened).shares(weights, at) == pytest.approx(expected, abs=1e-9)


def test_calibration_is_kept_where_it_helps() -> None:
    """Overconfident scores are better off calibrated; honest ones with few rows are mostly left alone."""
    rng = np.random.default_rng(2)

    def helped(rows: int, slope: float) -> list[bool]:
        draws = [rng.random(rows) for _ in range(20)]
        return [Calibrator.of(said, rng.random(rows) < 0.5 + slope * (said - 0.5)).helps() for said in draws]

    assert all(helped(2000, 0.5))
    assert sum(helped(60, 1.0)) < 10


def test_a_single_row_does_not_help() -> None:
    """One row calibrates nothing, and breaks nothing."""
    assert not Calibrator.of(np.full(1, 0.5), np.ones(1)).helps()


def test_many_classes_add_up_to_one() -> None:
    """Each class is calibrated against the rest, and every row is a distribution again."""
    rng = np.random.default_rng(3)
    scores = rng.dirichlet(np.ones(3), 500)
    outcomes = np.array([rng.choice(3, p=row) for row in scores])
    found = Calibration.of(Scored(multiclass(), outcomes, scores.argmax(axis=1), scores))
    belief = found.belief(np.ones(500), np.vstack([scores, [[0.0, 0.0, 1.0]]]))

    assert belief.shape == (501, 3)
    assert belief.sum(axis=1) == pytest.approx(np.ones(501))
