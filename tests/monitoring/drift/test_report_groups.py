"""Rows of one user resemble each other: whole users are the sample, not their rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.check_request import Limits
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.encoding import ReferenceGroups
from app.monitoring.reference.reference import Reference
from app.store.queries.windows import Window
from app.types import Row
from tests.support.monitoring.schemas import numeric_schema

MakeReference = Callable[..., Reference]
MakeWindow = Callable[..., Window]
LIMITS = Limits(alpha=1e-4)


def users(rng: np.random.Generator, count: int, rows: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw rows of users, shuffled: two features, of which the user makes up most, and the number of the user."""
    own = rng.normal(0, 0.9, (count, 2))
    user = rng.permutation(np.repeat(np.arange(count), rows))
    return own[user] + rng.normal(0, 0.4, (len(user), 2)), user


def looks(make_reference: MakeReference, make_window: MakeWindow, count: int = 3, **others: Any) -> list[Any]:
    """Report on windows of twenty users each, against a reference of a thousand users."""
    rng = np.random.default_rng(5)
    reference = make_reference(users(rng, 1000, 5)[0].tolist(), numeric_schema(2))
    reports: list[Any] = []
    earlier: Window | None = None
    for look in range(count):
        values, user = users(rng, 20, 50)
        window = make_window(values.tolist(), predictions=[0.0] * 1000, start=look * 1000)
        window = replace(window, contexts=[{"user": f"{look}-{each}", "region": "EU"} for each in user.tolist()])
        reports.append(drift_report(numeric_schema(2), reference, window, LIMITS, None, earlier=earlier, **others))
        earlier = window
    return reports


@pytest.mark.parametrize("entity", ["user", None])
def test_rows_of_few_users_are_no_drift(
    make_reference: MakeReference, make_window: MakeWindow, entity: str | None
) -> None:
    """Whether the user is configured or found by the rows, twenty users are a sample of twenty, and named."""
    reports = looks(make_reference, make_window, entity=entity)

    assert [report["drifted_features"] for report in reports] == [[]] * 3
    assert [report["multivariate"]["status"] for report in reports] == ["insufficient_data"] * 3
    assert reports[-1]["entity"] == {"name": "user", "configured": entity is not None, "entities": 20}
    assert reports[-1]["features"]["x0"]["effective_rows"] < 50


def test_a_key_that_always_has_the_same_values_names_no_groups(
    make_reference: MakeReference, make_window: MakeWindow
) -> None:
    """Regions come in every window: they are no sample of many, however much they explain."""
    rng = np.random.default_rng(6)
    reference = make_reference(rng.normal(size=(5000, 2)).tolist(), numeric_schema(2))

    def window(start: int) -> Window:
        region = rng.integers(0, 12, 1000)
        values = rng.normal(size=(1000, 2)) + region[:, None] / 5
        made = make_window(values.tolist(), predictions=[0.0] * 1000, start=start)
        return replace(made, contexts=[{"region": int(each)} for each in region])

    report: Any = drift_report(numeric_schema(2), reference, window(1000), LIMITS, None, earlier=window(0))

    assert report["entity"] is None
    assert set(report["drifted_features"]) == {"x0", "x1"}


def test_a_feature_names_groups_and_has_no_verdict_itself(
    make_reference: MakeReference, make_window: MakeWindow
) -> None:
    """A feature with the user's number is found, withheld and left out of the joint test; the others are judged."""
    rng = np.random.default_rng(7)
    values, user = users(rng, 1000, 5)
    rows: list[Row] = [(*row, float(number)) for row, number in zip(values.tolist(), user.tolist(), strict=True)]
    reference = make_reference(rows, numeric_schema(3))
    values, user = users(rng, 20, 50)
    window: list[Row] = [
        (row[0] + 4, row[1], number + 5000.0) for row, number in zip(values.tolist(), user, strict=True)
    ]
    report: Any = drift_report(
        numeric_schema(3), reference, make_window(window, predictions=[0.0] * 1000), LIMITS, None
    )

    assert report["entity"] == {"name": "x2", "configured": False, "entities": 20}
    assert report["features"]["x2"]["status"] == "withheld"
    assert report["multivariate"].get("left_out", []) in ([], ["x2"])
    assert report["drifted_features"] == ["x0"]


def test_groups_of_the_reference_are_used_from_the_first_window_on(
    make_reference: MakeReference, make_window: MakeWindow
) -> None:
    """Where the reference showed that users make up its rows, eight users in the context are known as such at once."""
    rng = np.random.default_rng(9)
    values, user = users(rng, 1000, 5)
    reference = make_reference(values.tolist(), numeric_schema(2))
    known = replace(reference, groups=ReferenceGroups("user", user))
    values, user = users(rng, 8, 125)
    window = make_window(values.tolist(), predictions=[0.0] * 1000)
    window = replace(window, contexts=[{"user": f"new-{each}"} for each in user.tolist()])

    alone: Any = drift_report(numeric_schema(2), reference, window, LIMITS, None)
    told: Any = drift_report(numeric_schema(2), known, window, LIMITS, None)

    assert (alone["entity"], alone["status"]) == (None, "drift")
    assert told["entity"] == {"name": "user", "configured": False, "entities": 8}
    assert told["drifted_features"] == []


def test_an_entity_that_no_row_has_is_told(make_reference: MakeReference, make_window: MakeWindow) -> None:
    """A name that is neither a feature nor in any context is an error of the report, and the rest stands."""
    rng = np.random.default_rng(8)
    reference = make_reference(rng.normal(size=(5000, 2)).tolist(), numeric_schema(2))
    window = make_window(rng.normal(size=(1000, 2)).tolist(), predictions=[0.0] * 1000)
    report: Any = drift_report(numeric_schema(2), reference, window, LIMITS, None, entity="customer")

    assert (report["status"], report["entity"]) == ("stable", None)
    assert [error["feature"] for error in report["errors"] if "drift.entity" in error["reason"]] == ["customer"]
