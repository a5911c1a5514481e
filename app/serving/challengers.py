"""Challengers: versions that may run in the shadow of the one that answers, known by their ``bundle.yaml`` alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.config import Serving
from app.errors import BundleError
from app.serving.bundle import read_manifest
from app.types import ModelSchema


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
    """Why two versions cannot answer the same rows and be judged by the same outcomes; None where they can."""
    if challenger.task is not champion.task:
        return f"its task is {challenger.task.value}, not {champion.task.value}"
    if set(challenger.classes) != set(champion.classes):
        return "its classes are others"
    theirs, ours = ([(each.name, each.type.value) for each in schema.features] for schema in (challenger, champion))
    if theirs == ours:
        return None
    differing = [f"{name} ({kind})" for name, kind in {*theirs} ^ {*ours}]
    return f"its features differ in {', '.join(sorted(differing))}" if differing else "its features have another order"
