"""Rows that depend on each other: the drift report counts them for less, and says where no verdict is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.check_request import Limits
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.reference import Reference
from app.store.queries.windows import Window
from app.types import Row
from tests.support.monitoring.schemas import numeric_schema

Draw = Callable[..., list[Row]]
MakeReference = Callable[..., Reference]
MakeWindow = Callable[..., Window]
LIMITS = Limits(alpha=1e-4)


def test_rows_that_resemble_their_neighbours(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """Rows that repeat for long are worth few: the report counts them, and where it is too few there is no verdict."""
    schema = numeric_schema(3)
    rng = np.random.default_rng(3)
    reference = make_reference(rng.normal(size=(5000, 3)).tolist(), schema)

    def look(repeats: int) -> Any:
        rows = np.repeat(rng.normal(size=(1000 // repeats, 3)), repeats, axis=0).tolist()
        window = make_window(rows, predictions=rng.normal(size=1000).tolist())
        return drift_report(schema, reference, window, LIMITS, None)

    some, few = look(5), look(100)

    assert 100 < some["window"]["effective_rows"] < 300
    assert some["drifted_features"] == []
    assert {entry["status"] for entry in few["features"].values()} == {"insufficient_data"}


def beside_a_trend(rng: np.random.Generator, rows: int, correlation: float, trend: NDArray[np.float64]) -> list[Row]:
    """Draw two correlated features and put a trend beside them."""
    one = rng.normal(size=rows)
    other = correlation * one + np.sqrt(1 - correlation**2) * rng.normal(size=rows)
    return list(zip(one.tolist(), other.tolist(), trend.tolist(), strict=True))


def test_a_correlation_that_flips_beside_a_trend_is_found(
    make_reference: MakeReference, make_window: MakeWindow
) -> None:
    """A feature whose rows depend on each other is left out of the joint test, and named as one without a verdict."""
    rng = np.random.default_rng(9)
    schema = numeric_schema(3)
    reference = make_reference(beside_a_trend(rng, 5000, 0.7, rng.permutation(np.arange(5000.0))), schema)
    window = make_window(beside_a_trend(rng, 1000, -0.7, np.linspace(2000, 2500, 1000)), predictions=[0.0] * 1000)
    report: Any = drift_report(schema, reference, window, Limits(alpha=1e-5), None)

    assert (report["multivariate"]["status"], report["multivariate"]["left_out"]) == ("drift", ["x2"])
    assert report["judged_share"] == pytest.approx(2 / 3)
    assert [entry["feature"] for entry in report["unjudged"]] == ["x2"]


def test_a_window_is_not_stable_while_most_features_have_no_verdict(
    make_reference: MakeReference, make_window: MakeWindow
) -> None:
    """Where more than half of the features are too dependent to be judged, the status says so, and the message why."""
    rng = np.random.default_rng(10)
    schema = numeric_schema(2)
    reference = make_reference(rng.uniform(size=(5000, 2)).tolist(), schema)
    slow = np.sin(np.linspace(0, 6, 1000)) / 2 + 0.5
    window = make_window(np.array([slow, 1 - slow]).T.tolist(), predictions=[0.0] * 1000)
    report: Any = drift_report(schema, reference, window, Limits(alpha=1e-5), None)

    assert (report["status"], report["judged_share"]) == ("insufficient_data", 0.0)
    assert "x0: rows depend on each other" in report["message"]
