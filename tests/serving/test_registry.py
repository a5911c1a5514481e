"""Which versions may run in the shadow of another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.serving.registry import mismatch
from app.types import Feature, FeatureType, ModelSchema, Task

AGE, CITY = Feature("age", FeatureType.NUMERIC), Feature("city", FeatureType.CATEGORICAL, categories=("a", "b"))
CHAMPION = ModelSchema("m", "1", Task.BINARY, (AGE, CITY), ("no", "yes"), "yes")


def test_another_fit_of_the_same_task_is_a_challenger() -> None:
    """Other bounds, categories, order of the classes and threshold are what versions differ in."""
    features = (replace(AGE, low=0.0, nullable=True), replace(CITY, categories=("a", "c")))
    other = replace(CHAMPION, version="2", features=features, classes=("yes", "no"), threshold=0.3)

    assert mismatch(other, CHAMPION) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": Task.REGRESSION}, "its task is regression, not binary"),
        ({"classes": ("no", "maybe")}, "its classes are others"),
        ({"features": (CITY, AGE)}, "its features have another order"),
        ({"features": (AGE,)}, "its features differ in city (categorical)"),
        (
            {"features": (replace(AGE, type=FeatureType.INTEGER), CITY)},
            "its features differ in age (integer), age (numeric)",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(changes: dict[str, object], reason: str) -> None:
    """Another task, other classes or other features cannot answer the same rows; the reason names the difference."""
    assert mismatch(replace(CHAMPION, **changes), CHAMPION) == reason  # type: ignore[arg-type]  # fields of many types
