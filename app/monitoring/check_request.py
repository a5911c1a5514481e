"""The request for a check: small, so that it can go to the checks' process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.config.fields import PrivacyMode
from app.config.settings import AbsentMeans, Drift, Performance
from app.types import Micros, ModelSchema, Report, Role

KINDS = ("drift", "performance")


@dataclass(frozen=True, slots=True)
class Check:
    """Say which check to run, on which version, and when.

    Attributes:
        folder: the version's bundle.
        now: the database's time of this look.
        before: the report of the look before.
        role: in which the version answers.
        absent: the label that a row without an outcome counts as.
        privacy: the form in which its rows are stored.
    """

    kind: str
    schema: ModelSchema
    folder: Path
    drift: Drift
    performance: Performance
    now: Micros
    before: Report | None
    role: Role = "active"
    absent: AbsentMeans | None = None
    privacy: Mapping[str, PrivacyMode] = field(default_factory=dict)
