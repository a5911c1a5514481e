"""The drift report as a whole: joint drift, seasons, widened nulls, and causes in order of their impact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.check_request import Limits
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.reference import Reference
from app.types import SECOND, Feature, FeatureType, ModelSchema, Row, Task
from tests.monitoring.conftest import MakeWindow

LIMITS = Limits(alpha=1e-4)
ROWS = 4000


@pytest.fixture
def schema() -> ModelSchema:
    """Two numbers and a regression over them."""
    features = (Feature("a", FeatureType.NUMERIC), Feature("b", FeatureType.NUMERIC))
    return ModelSchema("price", "1", Task.REGRESSION, features)


def pair(seed: int, rows: int, correlation: float = 0.0) -> NDArray[np.float64]:
    """Two standard normal columns."""
    drawn = np.random.default_rng(seed).normal(size=(2, rows))
    drawn[1] = correlation * drawn[0] + np.sqrt(1 - correlation**2) * drawn[1]
    return drawn


def reference(schema: ModelSchema, columns: NDArray[np.float64], **others: Any) -> Reference:
    """A reference whose predictions are independent of everything."""
    predictions = np.asarray(np.random.default_rng(99).normal(size=columns.shape[1]))
    return Reference(schema, list(columns), predictions, **others)


def report(
    known: Reference, make_window: MakeWindow, columns: NDArray[np.float64], start: int = 0, limits: Limits = LIMITS
) -> Any:
    """The report on a window of these columns, one row a second."""
    rows: list[Row] = [(float(a), float(b)) for a, b in columns.T]
    predictions = np.random.default_rng(98).normal(size=len(rows)).tolist()
    window = make_window(rows, predictions=predictions, start=start)
    return drift_report(known.schema, known, window, limits, None)


def test_joint_drift_makes_the_report_drift(schema: ModelSchema, make_window: MakeWindow) -> None:
    """No feature has moved by itself, the pair has: the report says drift, and names both."""
    found = report(reference(schema, pair(1, ROWS, 0.7)), make_window, pair(2, 500, -0.7))

    assert found["status"] == found["multivariate"]["status"] == "drift"
    assert found["drifted_features"] == []
    assert {entry["feature"] for entry in found["multivariate"]["features"]} == {"a", "b"}


def test_joint_drift_keeps_to_what_matters(schema: ModelSchema, make_window: MakeWindow) -> None:
    """Who wants to hear of large drifts alone does not hear of a small one by way of the classifier."""
    moved = pair(2, 500) + 0.4
    known = reference(schema, pair(1, ROWS))

    assert report(known, make_window, moved)["multivariate"]["status"] == "drift"
    large = report(known, make_window, moved, limits=Limits(1e-4, material_psi=1.0))
    assert (large["status"], large["multivariate"]["status"]) == ("stable", "stable")


def test_causes_stand_in_order_of_their_impact(schema: ModelSchema, make_window: MakeWindow) -> None:
    """The smaller drift of the feature that the answer depends on comes before the larger one of the other."""
    moved = pair(2, 500) + np.array([[1.0], [0.5]])
    known = reference(schema, pair(1, ROWS), dependence={"a": 0.05, "b": 0.95})

    found = report(known, make_window, moved)

    assert found["drifted_features"] == ["b", "a"]
    assert found["features"]["a"]["effect"] > found["features"]["b"]["effect"]
    assert found["features"]["a"]["impact"] < found["features"]["b"]["impact"] < 1


def test_variation_in_the_reference_is_no_drift(schema: ModelSchema, make_window: MakeWindow) -> None:
    """A shift no larger than what the blocks of the reference do among themselves is stable."""
    moved = pair(2, 500) + np.array([[0.4], [0.0]])
    varies = {"rows": 200, "features": {"a": {"inflation": 17.0, "blocks": 20}}}

    assert report(reference(schema, pair(1, ROWS)), make_window, moved)["status"] == "drift"
    qualified = report(reference(schema, pair(1, ROWS), qualification=varies), make_window, moved)
    assert qualified["status"] == "stable"


def test_a_feature_is_compared_with_its_own_hour(schema: ModelSchema, make_window: MakeWindow) -> None:
    """Noon as noon always is: stable against noons; the same values at midnight are drift."""
    hour = 3600
    times = np.arange(ROWS) * 10 * 24 * hour // ROWS
    wave = np.sin(times % (24 * hour) / (24 * hour) * 2 * np.pi)
    columns = pair(1, ROWS)
    columns[0] += 2 * wave
    known = reference(schema, columns, times=times * SECOND)
    morning = pair(2, 500) + np.array([[2 * np.sin(6.5 / 24 * 2 * np.pi)], [0.0]])

    usual = report(known, make_window, morning, start=20 * 24 * hour + 6 * hour + 1000)
    strange = report(known, make_window, morning, start=20 * 24 * hour + 18 * hour + 1000)

    assert usual["status"] == "stable"
    assert usual["seasonal"]["status"] == "used"
    assert [entry["feature"] for entry in usual["seasonal"]["columns"]] == ["a"]
    assert strange["drifted_features"] == ["a"]


def test_without_times_the_season_is_missing(schema: ModelSchema, make_window: MakeWindow) -> None:
    """The report says that there is no seasonal reference, and why."""
    found = report(reference(schema, pair(1, ROWS)), make_window, pair(2, 500))

    assert found["seasonal"] == {"status": "none", "reason": "no seasonal reference: the reference has no times"}
    assert (found["status"], found["multivariate"]["status"]) == ("stable", "stable")
