"""Schemas for windows and references that a test draws itself."""

from __future__ import annotations

from app.types import Feature, FeatureType, ModelSchema, Task


def numeric_schema(count: int) -> ModelSchema:
    """A regression schema of so many numeric features, ``x0`` and on."""
    features = tuple(Feature(f"x{position}", FeatureType.NUMERIC) for position in range(count))
    return ModelSchema("m", "1", Task.REGRESSION, features)
