"""The models in memory: loaded, verified and warmed before they answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from app.config import Serving
from app.errors import BundleError, NotFound
from app.metrics import ModelMetrics, ServingMetrics
from app.serving.answers import label_keys
from app.serving.batcher import Batcher, Cost
from app.serving.bundle import Bundle, find_versions, read_bundle
from app.serving.validation import RequestValidator
from app.serving.values import SHARE_BUCKETS, ValueHistograms
from app.types import FeatureType, Json, ModelSchema, Row

WARM_ROWS = 64


@dataclass(frozen=True, slots=True)
class Model:
    """One loaded version with all that its data path needs.

    Attributes:
        label_keys: the keys of its probabilities in an answer.
    """

    bundle: Bundle
    label_keys: tuple[str, ...]
    validator: RequestValidator
    batcher: Batcher
    metrics: ModelMetrics
    values: ValueHistograms

    @property
    def schema(self) -> ModelSchema:
        """What the version takes and answers."""
        return self.bundle.schema


def find_configured(settings: Serving) -> Path:
    """The folder of the configured version.

    Raises:
        BundleError: there is none.
    """
    name, _, version = settings.active.partition("/")
    versions = find_versions(settings.models, name)
    if not versions:
        where = settings.models / name
        raise BundleError(
            f"{where}: no bundle here; make one with plumbline bundle, or set serving.models and serving.active"
        )
    return settings.models / name / (version or versions[-1])


def read_configured(settings: Serving) -> Bundle:
    """The configured version, verified and loaded.

    Raises:
        BundleError: there is none, or it is refused.
    """
    return read_bundle(
        find_configured(settings),
        allow_pickle=settings.allow_pickle,
        trusted_types=settings.trusted_types,
        runtime=settings.runtime,
    )


class Registry:
    """The loaded versions of the served model; one of them is active."""

    def __init__(self, settings: Serving, metrics: ServingMetrics, series: CollectorRegistry) -> None:
        self._settings = settings
        self._metrics = metrics
        self._series = series
        self._loaded: dict[str, Model] = {}
        self._active: str | None = None

    def load(self) -> Model:
        """Load, verify and warm the configured version and make it the active one.

        Raises:
            BundleError: it is refused; the text says what to do.
        """
        bundle = read_configured(self._settings)
        model = self._prepare(bundle)
        self._loaded[model.schema.version] = model
        self._active = model.schema.version
        return model

    @property
    def active(self) -> Model:
        """The version that answers.

        Raises:
            NotFound: none is loaded.
        """
        return self.get(None)

    @property
    def ready(self) -> bool:
        """True once a version answers."""
        return self._active is not None

    def get(self, version: str | None) -> Model:
        """A loaded version; None asks for the active one.

        Raises:
            NotFound: the version is not loaded.
        """
        model = self._loaded.get(self._active if version is None else version) if self._active is not None else None
        if model is None:
            raise NotFound(f"no such version is loaded; loaded: {', '.join(sorted(self._loaded)) or 'none'}")
        return model

    def describe(self, name: str) -> Json:
        """All versions of a model on disk, with what is known of each; loaded ones in full.

        Raises:
            NotFound: the registry serves no model of this name.
        """
        if not self.ready or name != self.active.schema.name:
            raise NotFound("no model of this name is served")
        return {
            "name": name,
            "versions": [self._describe(version) for version in find_versions(self._settings.models, name)],
        }

    def close(self) -> None:
        """Let the models' threads end."""
        for model in self._loaded.values():
            model.batcher.close()

    def _prepare(self, bundle: Bundle) -> Model:
        cost = _warm(bundle.estimator.predict, bundle.golden_rows)
        limits = {"max_batch_rows": self._settings.max_batch_rows, "max_queue_rows": self._settings.max_queue_rows}
        metrics = self._metrics.for_model(bundle.schema)
        values = ValueHistograms(bundle.schema, _edges(bundle), _prediction_edges(bundle))
        self._series.register(values)
        metrics.loaded.set(1)
        return Model(
            bundle,
            label_keys(bundle.schema.classes),
            RequestValidator(bundle.schema),
            Batcher(bundle.estimator.predict, cost, self._metrics.batch_rows, **limits),
            metrics,
            values,
        )

    def _describe(self, version: str) -> Json:
        model = self._loaded.get(version)
        if model is None:
            return {"version": version, "role": "available"}
        bundle, schema = model.bundle, model.schema
        return {
            "version": version,
            "role": "active" if version == self._active else "available",
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


def _warm(predict: Callable[[Sequence[Row]], object], rows: Sequence[Row]) -> Cost:
    """Run the model on golden rows until its caches are warm, and measure what a call and a row cost."""
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
