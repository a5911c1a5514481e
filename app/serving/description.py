"""A version as ``GET /models`` tells of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from app.serving.bundle import Bundle
from app.types import Json, ModelSchema

VersionRole: TypeAlias = Literal["active", "shadow", "available"]


def describe(bundle: Bundle, role: VersionRole) -> Json:
    """Schema, baseline, reference and origin of a loaded version."""
    return describe_schema(bundle.schema, role, bundle.sha256) | {
        "baseline": bundle.baseline,
        "reference": {key: bundle.profile.get(key) for key in ("rows", "created_at", "in_sample")},
        "format": bundle.format,
        "runtime": bundle.runtime,
        "libraries": dict(bundle.libraries),
    }


def describe_schema(schema: ModelSchema, role: VersionRole, sha256: str) -> Json:
    """What a version takes and answers, as its ``bundle.yaml`` says."""
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
        "sha256": sha256,
    }
