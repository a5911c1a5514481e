"""A loaded version as ``GET /models`` tells of it."""

from __future__ import annotations

from typing import Literal

from app.serving.model import Model
from app.types import Json


def describe(model: Model, role: Literal["active", "available"]) -> Json:
    """Schema, baseline, reference and origin of a version."""
    bundle, schema = model.bundle, model.schema
    return {
        "version": schema.version,
        "role": role,
        "task": schema.task.value,
        "features": [
            {
                "name": feature.name,
                "type": feature.type.value,
                "nullable": feature.nullable,
                "categories": list(feature.categories),
                "low": feature.low,
                "high": feature.high,
            }
            for feature in schema.features
        ],
        "classes": list(schema.classes),
        "positive_class": schema.positive,
        "threshold": schema.threshold,
        "baseline": bundle.baseline,
        "reference": {key: bundle.profile.get(key) for key in ("rows", "created_at", "in_sample")},
        "sha256": bundle.sha256,
        "format": bundle.format,
        "runtime": bundle.runtime,
        "libraries": dict(bundle.libraries),
    }
