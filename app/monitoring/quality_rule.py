"""When a count out of a window's rows is too many, given the count out of the reference's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from app.monitoring.findings import make_finding
from app.monitoring.statistics import share_p_values
from app.types import Json


@dataclass(frozen=True, slots=True)
class Rule:
    """Compares counts out of m window rows with counts out of n reference rows.

    Attributes:
        alpha: false-alarm probability of one test.
        material: smallest rise of the share that matters.
        inflation: how many times the variance exceeds that of independent rows; asked only where there might be a
            finding, since it costs more than the test.
    """

    alpha: float
    material: float
    n: int
    m: int
    inflation: Callable[[], float] = lambda: 1.0

    def finding(self, feature: str | None, kind: str, ours: int, theirs: int, what: str) -> Iterator[Json]:
        """Yield a finding where the window's share exceeds the reference's by what matters, and by more than chance."""
        if theirs / self.m < ours / self.n + self.material or not self._is_significant(ours, theirs, 1.0):
            return
        inflation = self.inflation()
        if not self._is_significant(ours, theirs, inflation):
            return
        limit = max(self._limit(ours, theirs, inflation) / self.m, ours / self.n + self.material)
        value = theirs / self.m
        message = f"{value:.2%} of rows {what}; in the reference {ours / self.n:.2%}, limit {limit:.2%}"
        yield make_finding(feature, kind, value, limit, message)

    def _is_significant(self, ours: int, theirs: int, inflation: float) -> bool:
        """Test as many rows as these are worth."""
        n, m, before, now = (int(count / inflation) for count in (self.n, self.m, ours, theirs))
        return float(share_p_values(np.array([before]), n, np.array([now]), m)[0]) <= self.alpha

    def _limit(self, ours: int, theirs: int, inflation: float) -> int:
        """Find the smallest significant count by bisection, since more is always more significant."""
        normal, excessive = ours * self.m // self.n, theirs
        while excessive - normal > 1:
            middle = (normal + excessive) // 2
            significant = self._is_significant(ours, middle, inflation)
            normal, excessive = (normal, middle) if significant else (middle, excessive)
        return excessive
