"""A shifted input is found, and the reference weighted to look like it."""

from __future__ import annotations

import numpy as np
import pytest

from app.monitoring.estimation.samples import Shift, measure_shift, trust


def test_a_still_input_leaves_the_reference_alone() -> None:
    """Where nothing has moved there is no shift, and every reference row counts alike."""
    rng = np.random.default_rng(1)
    found = [measure_shift(rng.normal(size=(1000, 3)), rng.normal(size=(400, 3))) for _ in range(10)]

    assert not any(shift.shifted for shift in found)
    assert all((shift.weights == 1).all() and not shift.unseen.any() for shift in found)


def test_weights_make_the_reference_look_like_the_window() -> None:
    """Weighted, the mean of the reference is close to the window's, at the price of effective rows."""
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(size=(4000, 3)), rng.normal((0.8, 0.0, 0.0), 1.0, (2000, 3))
    found = measure_shift(ours, theirs)

    assert found.shifted
    assert found.weights.mean() == pytest.approx(1.0)
    assert np.average(ours[:, 0], weights=found.weights) == pytest.approx(0.8, abs=0.15)
    assert 1000 < found.effective_rows < 3500


def test_a_new_region_is_unseen() -> None:
    """Rows where the reference has almost none are counted, and no others."""
    rng = np.random.default_rng(3)
    theirs = rng.normal(size=(1000, 2))
    theirs[:300] += 12.0
    found = measure_shift(rng.normal(size=(4000, 2)), theirs)

    assert found.unseen[:300].mean() > 0.9
    assert found.unseen[300:].mean() < 0.05


def test_a_new_gap_is_unseen() -> None:
    """A value that is missing, and never was, is a new region; one that often was is none."""
    ours, theirs = np.zeros((100, 2)), np.zeros((100, 2))
    ours[::2, 1] = theirs[::2, 1] = np.nan
    theirs[:5, 0] = np.nan

    assert measure_shift(ours, theirs).unseen.sum() == 5


@pytest.mark.parametrize("rows", [0, 1, 30])
def test_few_rows_tell_nothing(rows: int) -> None:
    """Too few rows to learn from are no shift."""
    found = measure_shift(np.zeros((500, 1)), np.ones((rows, 1)))

    assert not found.shifted
    assert (found.weights == 1).all()


def test_trust_grows_with_the_evidence() -> None:
    """A difference within its noise is mostly left aside, one far beyond it is followed, and none is no trouble."""
    believed = trust(np.array([0.0, 0.1, 1.0, 0.0]), np.array([1.0, 1.0, 0.01, 0.0]))

    assert believed == pytest.approx([0.0, 0.01, 0.99, 0.0], abs=0.01)


def test_effective_rows() -> None:
    """Equal weights are worth all rows, one single weight is worth one."""
    weights = np.zeros(50)
    weights[3] = 50.0

    assert Shift(0.5, False, np.ones(50), np.zeros(1, dtype=np.bool_)).effective_rows == pytest.approx(50)
    assert Shift(0.9, True, weights, np.zeros(1, dtype=np.bool_)).effective_rows == pytest.approx(1)
