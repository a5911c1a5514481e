"""What every estimate of performance without labels offers, and which one fits a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.monitoring.confidence import Confidence
from app.monitoring.losses import LossModel
from app.monitoring.sample import Sample
from app.monitoring.scored import Measured
from app.monitoring.weighting import Shift
from app.types import Task


class Estimator(Protocol):
    """Estimates the metrics of one window."""

    @property
    def method(self) -> str:
        """What the estimate rests on."""

    def values(self, rows: NDArray[np.bool_]) -> Mapping[str, float]:
        """Estimate each metric over some of the rows; NaN where it is undefined."""

    def measured(self) -> Mapping[str, Measured]:
        """Estimate each metric over all rows, with its interval."""


def estimator_of(reference: Sample, window: Sample, shift: Shift) -> Estimator:
    """Choose the estimate that fits the task; every outcome of the reference is known."""
    regression = window.answers.schema.task is Task.REGRESSION
    return (LossModel if regression else Confidence)(reference, window, shift)
