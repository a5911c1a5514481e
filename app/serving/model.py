"""A loaded and warmed model with its metrics, and its description for the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from app.config.settings import Serving
from app.metrics import ModelMetrics, ServingMetrics
from app.serving.batcher import Batcher, Cost
from app.serving.bundle.reader import Bundle
from app.serving.validation.validator import RequestValidator
from app.serving.value_histograms import SHARE_BUCKETS, ValueHistograms
from app.types import FeatureType, Json, ModelSchema, Row, label_keys

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
    """Describe what a version takes and answers, as its ``bundle.yaml`` says."""
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


WARM_ROWS = 64


@dataclass(frozen=True, slots=True)
class Model:
    """One loaded version with all that its data path needs.

    Attributes:
        label_keys: the keys of its probabilities in an answer.
    """

    bundle: Bundle
    schema: ModelSchema
    label_keys: tuple[str, ...]
    validator: RequestValidator
    batcher: Batcher
    metrics: ModelMetrics
    values: ValueHistograms


def warmed(bundle: Bundle, settings: Serving, metrics: ServingMetrics) -> Model:
    """The data path of a verified bundle, its caches warm."""
    predict = bundle.estimator.predict
    cost = _warm(predict, bundle.golden_rows)
    limits = {"max_batch_rows": settings.max_batch_rows, "max_queue_rows": settings.max_queue_rows}
    return Model(
        bundle,
        bundle.schema,
        label_keys(bundle.schema.classes),
        RequestValidator(bundle.schema, bundle.estimator.bounds),
        Batcher(predict, cost, metrics.batch_rows, **limits),
        metrics.for_model(bundle.schema),
        ValueHistograms(bundle.schema, _edges(bundle), _prediction_edges(bundle)),
    )


def _warm(predict: Callable[[Sequence[Row]], object], rows: Sequence[Row]) -> Cost:
    """Warm the model on golden rows, and measure the cost of a call and of a row."""
    many = (list(rows) * WARM_ROWS)[:WARM_ROWS]
    seconds: dict[int, float] = {}
    for part in (many[:1], many):
        tries = []
        for _ in range(5):
            started = time.perf_counter()
            predict(part)
            tries.append(time.perf_counter() - started)
        seconds[len(part)] = min(tries)
    row = max(0.0, (seconds[WARM_ROWS] - seconds[1]) / (WARM_ROWS - 1))
    return Cost(seconds[1], row)


def _edges(bundle: Bundle) -> dict[str, Sequence[float]]:
    numbers = [
        feature.name for feature in bundle.schema.features if feature.type in (FeatureType.NUMERIC, FeatureType.INTEGER)
    ]
    features = bundle.profile["features"]
    return {name: edges for name in numbers if (edges := features.get(name, {}).get("edges"))}


def _prediction_edges(bundle: Bundle) -> Sequence[float]:
    return SHARE_BUCKETS if bundle.schema.classes else bundle.profile.get("prediction", {}).get("edges") or (0.0,)
