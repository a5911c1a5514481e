"""The request for a check, and the part of the false-alarm budget that one look may spend.

The request is small, so that it can go to the checks' process. The budget is divided over time and over the families of
tests.
"""

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


DRIFT_SHARE = 0.5
"""Part of the budget for drift of single features and of the prediction."""
PERFORMANCE_SHARE = 0.3
"""Part of the budget for realised and estimated performance."""
QUALITY_SHARE = 0.1
"""Part of the budget for data quality."""
JOINT_SHARE = 0.1
"""Part of the budget for joint drift of several features."""

SHAPE_SHARE = 0.7
"""Part of a family's alpha for tests of whole distributions; the rest is for tests of single shares."""

_MAX_ALPHA = 0.01


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold the limits that separate noise from drift in one look.

    Attributes:
        alpha: false-alarm probability of this look for the drift family, its share of the budget already taken.
        material_psi: the smallest PSI above noise that matters to the user.
        false_alarm_every: the setting behind ``alpha``, as the report shows it.
        min_rows: below this many rows in the window there is no verdict.
        min_reference_rows: the same for the reference; from there on the level is measured (``benchmarks/drift``).
        material_share: the smallest rise of a share (missing, unseen, ...) that data quality mentions.
    """

    alpha: float
    material_psi: float = 0.01
    false_alarm_every: str = "P30D"
    min_rows: int = 50
    min_reference_rows: int = 30
    material_share: float = 0.005

    @property
    def quality_alpha(self) -> float:
        """The same look's false-alarm probability for the data-quality family."""
        return self.alpha * QUALITY_SHARE / DRIFT_SHARE

    @property
    def joint_alpha(self) -> float:
        """The same look's false-alarm probability for joint drift."""
        return self.alpha * JOINT_SHARE / DRIFT_SHARE


def alpha_per_look(elapsed_s: float, false_alarm_s: float) -> float:
    """False-alarm probability that one look may spend, over all families.

    ``min(0.01, elapsed / false_alarm_every)``, both in seconds: by linearity of expectation the expected number of
    alarming looks is then at most one per period, however much the windows overlap.

    >>> f"{alpha_per_look(60, 30 * 86_400):.2e}"
    '2.31e-05'
    >>> alpha_per_look(86_400, 86_400)
    0.01
    """
    return min(_MAX_ALPHA, elapsed_s / false_alarm_s)
