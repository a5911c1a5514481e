"""How much worse than its baseline a metric may be, and whether it surely is: with the errors of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from app.monitoring.scored import Measured

RELATIVE = frozenset({"mae", "rmse", "mape", "log_loss", "brier"})
"""Errors, whose allowed rise is a share of the baseline; of all others it is absolute."""
LOWER_IS_BETTER = RELATIVE | {"calibration_error"}
TWO_SIDED = "bias"
"""Worse to either side of its baseline, by more than the allowed share of the baseline's mean absolute error."""


@dataclass(frozen=True, slots=True)
class Margin:
    """The limit of one metric, ``factor * baseline + sign * points``; ``sign`` is 1 where more is worse."""

    sign: int
    factor: float
    points: float

    def limit(self, baseline: float) -> float:
        """Give the value from which on the metric is worse than the user accepts."""
        return self.factor * baseline + self.sign * self.points

    def exceeded(self, found: Measured, baseline: Measured, confidence: float) -> bool:
        """Tell whether the metric surely lies beyond its limit, however little is known of metric and baseline.

        The interval of a difference takes the distance of each side to its own bound, and adds both as squares: for
        shares Newcombe (1998), doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, and for any metric
        Zou and Donner (2008), doi:10.1002/sim.3095.
        """
        distance = self.sign * (_value(found) - self.limit(_value(baseline)))
        ours, theirs = _reach(found, confidence, -self.sign), _reach(baseline, confidence, self.sign)
        return distance > math.hypot(ours, self.factor * theirs)

    def bettered(self, found: Measured, baseline: Measured, confidence: float) -> bool:
        """Tell whether the metric is surely better than its baseline."""
        distance = self.sign * (_value(baseline) - _value(found))
        return distance > math.hypot(_reach(found, confidence, self.sign), _reach(baseline, confidence, -self.sign))


def margin(name: str, found: float, baseline: Mapping[str, float], allowed: float) -> Margin:
    """Choose the margin of a metric: ``allowed`` points, for errors this share of the baseline.

    >>> round(margin("accuracy", 0.9, {"accuracy": 0.95}, 0.05).limit(0.95), 6)
    0.9
    >>> round(margin("rmse", 4.0, {"rmse": 2.0}, 0.05).limit(2.0), 6)
    2.1
    """
    if name == TWO_SIDED:
        return Margin(1 if found >= baseline[name] else -1, 1.0, allowed * baseline["mae"])
    if name in RELATIVE:
        return Margin(1, 1 + allowed, 0.0)
    return Margin(1 if name in LOWER_IS_BETTER else -1, 1.0, allowed)


def _value(measured: Measured) -> float:
    return math.nan if measured.value is None else measured.value


def _reach(measured: Measured, confidence: float, side: int) -> float:
    """Distance from the value to its upper (1) or lower (-1) bound; none where the value is exact."""
    if measured.interval is None:
        return 0.0
    return max(side * (measured.interval.bounds(confidence)[side > 0] - _value(measured)), 0.0)
