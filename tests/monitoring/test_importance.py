"""Dependence: whose values move the model's answer, and how that ranks the causes of a drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.monitoring.drift.verdict import impacts
from app.monitoring.reference_profile import answer_dependence
from app.types import Answer, ModelSchema, Row, Task


def score(row: Row) -> float:
    """Twice as much weight on income as on membership, none on the rest."""
    income, _, member, _ = row
    return 1 / (1 + math.exp(-(2.0 * float(income or 0.0) + float(bool(member)))))


def probabilities(rows: Sequence[Row]) -> list[Answer]:
    """A classifier that gives probabilities."""
    return [Answer("good", (1 - score(row), score(row))) for row in rows]


def labels(rows: Sequence[Row]) -> list[Answer]:
    """The same classifier without probabilities."""
    return [Answer("good" if score(row) > 0.5 else "bad") for row in rows]


def numbers(rows: Sequence[Row]) -> list[Answer]:
    """The same as a regression."""
    return [Answer(score(row)) for row in rows]


@pytest.mark.parametrize("predict", [probabilities, labels, numbers])
def test_shares_follow_the_model(schema: ModelSchema, draw: Any, predict: Any) -> None:
    """The feature with the largest weight has the largest share, one that is not used has none, and they add up."""
    if predict is numbers:
        schema = replace(schema, task=Task.REGRESSION, classes=(), positive=None)

    shares = answer_dependence(schema, draw(2000, seed=1), predict)

    assert shares["income"] > shares["member"] > 0
    assert shares["visits"] == shares["channel"] == 0
    assert sum(shares.values()) == pytest.approx(1)


def test_same_rows_same_shares(schema: ModelSchema, draw: Any) -> None:
    """A bundle made twice is the same, whatever else uses NumPy's random numbers."""
    rows = draw(300, seed=1)
    first = answer_dependence(schema, rows, probabilities)
    np.random.seed(5)

    assert answer_dependence(schema, rows, probabilities) == first


def test_a_constant_model_depends_on_nothing(schema: ModelSchema, draw: Any) -> None:
    """Where no feature moves the answer, every share is 0."""
    shares = answer_dependence(schema, draw(100, seed=1), lambda rows: [Answer("bad", (1.0, 0.0))] * len(rows))

    assert set(shares.values()) == {0.0}


def test_questions_are_bounded(schema: ModelSchema, draw: Any) -> None:
    """A large reference costs the model no more than 500 rows a feature, and one round before."""
    asked: list[int] = []

    def counting(rows: Sequence[Row]) -> list[Answer]:
        asked.append(len(rows))
        return probabilities(rows)

    answer_dependence(schema, draw(3000, seed=1), counting)

    assert asked == [500] * 5


def test_impact_weighs_drift_by_dependence() -> None:
    """A smaller drift of what the model listens to outranks a larger one of what it ignores; the sum is at most 1."""
    found = impacts({"used": 0.2, "ignored": 5.0, "half": 0.2}, {"used": 0.6, "ignored": 0.0, "half": 0.4})

    assert sorted(found, key=lambda name: -found[name]) == ["used", "half", "ignored"]
    assert sum(impacts({"a": 1e9, "b": 1e9}, {"a": 0.5, "b": 0.5}).values()) <= 1
