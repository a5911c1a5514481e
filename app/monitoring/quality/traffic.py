"""Findings of data quality: shares that have risen, silence and too few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from app.figures.drift import WINDOW_CHECKS, checks_of
from app.reports.drift import QualityFinding
from app.store.queries.windows import Arrivals, Stretch
from app.types import FeatureType


def quality_tests(features: int) -> int:
    """Count the tests among which a look's alpha for data quality is divided.

    Every feature counts as one of the type with most tests, whether they apply or not.

    >>> quality_tests(30)
    214
    """
    return features * max(len(checks_of(each)) for each in FeatureType) + len(WINDOW_CHECKS)


def make_finding(feature: str | None, kind: str, value: float, limit: float, message: str) -> QualityFinding:
    """Put a finding into the form of ``GET /drift``; ``value`` has reached ``limit``."""
    return {"feature": feature, "kind": kind, "value": value, "limit": limit, "message": message}


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

    def finding(self, feature: str | None, kind: str, ours: int, theirs: int, what: str) -> Iterator[QualityFinding]:
        """Yield a finding where the window's share rises by what matters and beyond chance."""
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
        from app.statistics import share_p_values  # SciPy, which the process that serves never loads

        return float(share_p_values(np.array([before]), n, np.array([now]), m)[0]) <= self.alpha

    def _limit(self, ours: int, theirs: int, inflation: float) -> int:
        """Find the smallest significant count by bisection, since more is always more significant."""
        normal, excessive = ours * self.m // self.n, theirs
        while excessive - normal > 1:
            middle = (normal + excessive) // 2
            significant = self._is_significant(ours, middle, inflation)
            normal, excessive = (normal, middle) if significant else (middle, excessive)
        return excessive


MAX_SILENCE_S = 300.0
"""Below this, no silence is a finding."""
_DROP = 0.5
_NEEDED = "a day earlier"
"""Traffic has a daily course: before a version has a day of history, nothing says what is normal."""


def freshness_findings(arrivals: Arrivals, alpha: float) -> Iterator[QualityFinding]:
    """Yield a finding where no row has come for too long; see :func:`is_silent`."""
    if is_silent(arrivals, alpha):
        when, rows = _quietest(arrivals.silence)
        message = f"no row for {arrivals.silence_s:.0f} s; {when} the same stretch of time had {rows} or more"
        yield make_finding(None, "freshness", arrivals.silence_s, MAX_SILENCE_S, message)


def traffic_findings(arrivals: Arrivals, alpha: float) -> Iterator[QualityFinding]:
    """Yield a finding where the last hour has too few rows.

    A stretch of time is compared with the quietest of the same stretches an hour, a day and a week earlier. It has too
    few rows when it has at most half as many, and the share of its rows in the sum of both is below one half by more
    than chance: Przyborowski and Wilenski (1940), doi:10.1093/biomet/31.3-4.313, for Poisson arrivals.
    """
    if _too_few(arrivals.hour, alpha):
        when, rows = _quietest(arrivals.hour)
        drop = 1 - arrivals.hour.rows / rows
        message = f"the last hour had {drop:.0%} fewer rows than the same hour {when}, limit {_DROP:.0%}"
        yield make_finding(None, "traffic", drop, _DROP, message)


def is_silent(arrivals: Arrivals, alpha: float) -> bool:
    """Tell whether no row has come for longer than earlier traffic lets expect."""
    return arrivals.silence_s >= MAX_SILENCE_S and _too_few(arrivals.silence, alpha)


def _too_few(stretch: Stretch, alpha: float) -> bool:
    if _NEEDED not in stretch.earlier:
        return False
    rows, (_, expected) = stretch.rows, _quietest(stretch)
    return rows <= _DROP * expected and _fewer_p_value(rows, expected) <= alpha


def _quietest(stretch: Stretch) -> tuple[str, int]:
    return min(stretch.earlier.items(), key=lambda item: item[1])


def _fewer_p_value(rows: int, expected: int) -> float:
    """Probability of at most ``rows`` heads in ``rows + expected`` throws of a fair coin, exact.

    >>> _fewer_p_value(0, 24) == 2.0**-24
    True
    """
    throws = rows + expected
    return float(sum(math.comb(throws, heads) for heads in range(rows + 1)) / 2**throws)
