"""Loaded versions by their role: active, shadow, available."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry

from app.config.settings import Serving
from app.errors import BundleError, NotFound, without_folders
from app.metrics import ModelMetrics, ServingMetrics
from app.serving.batcher import Batcher, Cost
from app.serving.bundle.reader import Bundle, find_versions, read_bundle, read_manifest
from app.serving.bundle.verification import Verifier
from app.serving.validation.validator import RequestValidator
from app.serving.value_histograms import ServedValues, ValueHistograms, histograms_of
from app.types import Json, ModelSchema, Row, ServedVersions, Watched, label_keys

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


def warmed(bundle: Bundle, settings: Serving, metrics: ServingMetrics, private: Collection[str] = frozenset()) -> Model:
    """The data path of a verified bundle, its caches warm.

    Args:
        private: features whose values are not counted.
    """
    predict = bundle.estimator.predict
    cost = warm_up(predict, bundle.golden_rows)
    limits = {"max_batch_rows": settings.max_batch_rows, "max_queue_rows": settings.max_queue_rows}
    return Model(
        bundle,
        bundle.schema,
        label_keys(bundle.schema.classes),
        RequestValidator(bundle.schema, bundle.estimator.bounds, max_rows=settings.max_queue_rows),
        Batcher(predict, cost, metrics.batch_rows, **limits),
        metrics.for_model(bundle.schema),
        histograms_of(bundle.schema, bundle.profile, private),
    )


def warm_up(predict: Callable[[Sequence[Row]], object], rows: Sequence[Row]) -> Cost:
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


@dataclass(frozen=True, slots=True)
class Challenger:
    """A version to compare with the one that answers; a process of its own loads it.

    Attributes:
        sha256: of its ``bundle.yaml``.
    """

    schema: ModelSchema
    folder: Path
    sha256: str


def read_challengers(settings: Serving, champion: ModelSchema) -> tuple[Challenger, ...]:
    """The configured shadows.

    Raises:
        BundleError: one is missing, or cannot be compared with the version that answers.
    """
    found = []
    for version in dict.fromkeys(settings.shadows):
        folder = settings.models / champion.name / version
        manifest, sha256 = read_manifest(folder)
        challenger = Challenger(manifest.schema_of(), folder, sha256)
        if reason := mismatch(challenger.schema, champion):
            raise BundleError(f"{folder}: cannot be a shadow of version {champion.version}: {reason}")
        found.append(challenger)
    return tuple(found)


def mismatch(challenger: ModelSchema, champion: ModelSchema) -> str | None:
    """Give the reason why two versions cannot be compared on the same rows, or None."""
    if challenger.task is not champion.task:
        return f"its task is {challenger.task.value}, not {champion.task.value}"
    if set(challenger.classes) != set(champion.classes):
        return "its classes are others"
    theirs, ours = ([(each.name, each.type.value) for each in schema.features] for schema in (challenger, champion))
    if theirs == ours:
        return None
    differing = [f"{name} ({kind})" for name, kind in {*theirs} ^ {*ours}]
    return f"its features differ in {', '.join(sorted(differing))}" if differing else "its features have another order"


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
    return _read(find_configured(settings), settings)


def _read(folder: Path, settings: Serving) -> Bundle:
    return read_bundle(
        folder,
        allow_pickle=settings.allow_pickle,
        trusted_types=settings.trusted_types,
        runtime=settings.runtime,
    )


class Registry:
    """Hold the loaded versions of the served model: the active one and the one before it."""

    def __init__(
        self,
        settings: Serving,
        metrics: ServingMetrics,
        series: CollectorRegistry,
        verifier: Verifier,
        private: Collection[str] = frozenset(),
    ) -> None:
        self._private = private
        self._settings = settings
        self._verifier = verifier
        self._metrics = metrics
        self._values = ServedValues(series)
        self._loaded: dict[str, Model] = {}
        self._active: str | None = None
        self.challengers: tuple[Challenger, ...] = ()

    def load(self) -> Model:
        """Load, verify and warm the configured version and make it active; read its shadows.

        Raises:
            BundleError: it is refused; the text says what to do.
        """
        self._verifier.verify(find_configured(self._settings))
        bundle = read_configured(self._settings)
        self.challengers = read_challengers(self._settings, bundle.schema)
        model = warmed(bundle, self._settings, self._metrics, self._private)
        self.activate(model)
        return model

    def prepare(self, version: str, sha256: str | None = None) -> Model:
        """Load, verify and warm a version that does not answer yet; this takes seconds.

        Args:
            sha256: of the bundle that it must be.

        Raises:
            NotFound: it is not on disk.
            BundleError: it is refused.
        """
        model = self._loaded.get(version)
        if model is None:
            folder = self._settings.models / self.active.schema.name
            on_disk = find_versions(self._settings.models, folder.name)
            if version not in on_disk:
                raise NotFound(f"{folder.name}: has no such version; it has {', '.join(on_disk) or 'none'}")
            self._verifier.verify(folder / version)
            model = warmed(_read(folder / version, self._settings), self._settings, self._metrics, self._private)
        if sha256 not in (None, model.bundle.sha256):
            raise BundleError(
                f"{model.bundle.folder}: is not the bundle that was activated; copy that one here and restart, "
                "or activate this one"
            )
        return model

    def activate(self, model: Model) -> None:
        """Let a prepared version answer from the next request on.

        Requests that have begun end with the version that they began with.

        A version that is dropped needs no closing: its batcher goes with the last request that holds it.
        """
        version, before = model.schema.version, self._active
        if version == before:
            return
        self._loaded[version] = model
        self._active = version
        self._values.add(model.values)
        model.metrics.loaded.set(1)
        for other in self._loaded.keys() - {version, before}:
            dropped = self._loaded.pop(other)
            self._values.drop(dropped.values)
            dropped.metrics.loaded.set(0)

    @property
    def active(self) -> Model:
        """The version that answers.

        Raises:
            NotFound: none is loaded.
        """
        return self.get(None)

    def shown(self, text: str) -> str:
        """The text of a refusal for a caller: paths begin below the folder of models."""
        models = self._settings.models
        return without_folders(without_folders(text.replace(f"{models}/", ""), str(models.resolve())))

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

    @property
    def shadows(self) -> list[Challenger]:
        """The challengers that stand beside the active version."""
        return [challenger for challenger in self.challengers if challenger.schema.version != self._active]

    def shadow(self, version: str | None) -> Challenger | None:
        """The shadow of this version; None where it is none."""
        return next((challenger for challenger in self.shadows if challenger.schema.version == version), None)

    def schema(self, version: str | None) -> ModelSchema:
        """Give the schema of a loaded version or a shadow; None asks for the active one.

        Raises:
            NotFound: it is neither.
        """
        shadow = self.shadow(version)
        return shadow.schema if shadow else self.get(version).schema

    def served(self) -> ServedVersions:
        """The versions of this moment, for other threads. Call it in the event loop.

        Raises:
            NotFound: none is loaded.
        """
        schemas = {version: model.schema for version, model in self._loaded.items()}
        shadows = {shadow.schema.version: shadow.schema for shadow in self.shadows}
        return ServedVersions(self.active.schema, schemas | shadows)

    def describe(self, name: str) -> Json:
        """All versions of a model on disk, with what is known of each; loaded ones in full.

        Raises:
            NotFound: the registry serves no model of this name.
        """
        if not self.ready or name != self.active.schema.name:
            raise NotFound("no model of this name is served")
        loaded, active = dict(self._loaded), self._active  # another version may be activated while files are read
        shadows = {shadow.schema.version: shadow for shadow in self.shadows}

        def version_of(version: str) -> Json:
            role: VersionRole = "active" if version == active else "shadow" if version in shadows else "available"
            if version in loaded:
                return describe(loaded[version].bundle, role)
            if shadow := shadows.get(version):
                return describe_schema(shadow.schema, role, shadow.sha256)
            return {"version": version, "role": role}

        return {"name": name, "versions": list(map(version_of, find_versions(self._settings.models, name)))}

    def close(self) -> None:
        """Let the models' threads end."""
        for model in self._loaded.values():
            model.batcher.close()


class RegistryVersions:
    """The versions of the registry, as checks and alerts need them. Call it in the event loop."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def served(self) -> ServedVersions:
        """A snapshot of the versions, which other threads may read."""
        return self._registry.served()

    def active(self) -> Watched:
        """The version that answers."""
        return self.find(None)

    def shadows(self) -> list[Watched]:
        """The versions beside it."""
        return [Watched(shadow.schema, shadow.folder, "shadow") for shadow in self._registry.shadows]

    def find(self, version: str | None) -> Watched:
        """A loaded version or a shadow; None asks for the active one.

        Raises:
            NotFound: it is neither.
        """
        if shadow := self._registry.shadow(version):
            return Watched(shadow.schema, shadow.folder, "shadow")
        model = self._registry.get(version)
        return Watched(model.schema, model.bundle.folder)
