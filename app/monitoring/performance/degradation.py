"""Degradation: a metric against its baseline and the drop that is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from app.figures.performance import METRIC
from app.monitoring.performance.scoring import Measured, Scored, known
from app.monitoring.reference.encoding import encode
from app.monitoring.reference.reference import Reference
from app.reports.performance import Grade, Metric, Withheld
from app.types import Scalar

MIN_ROWS = 50
"""Fewest reference rows of a segment that make a baseline of its own."""


@dataclass(frozen=True)
class Baseline:
    """Hold the metrics of the reference's rows with an outcome.

    There are none where these say nothing of new data.
    """

    reference: Reference | None

    @property
    def missing(self) -> str | None:
        """Why there is no baseline; None where there is one."""
        if self.reference is not None and self.reference.in_sample:
            return "the baseline comes from data that the model was fitted on"
        return None if self.scored and self.scored.rows else "the model was bundled without baseline metrics"

    @cached_property
    def scored(self) -> Scored | None:
        """The reference's rows whose outcome is known."""
        if self.reference is None or self.reference.outcomes is None:
            return None
        found = self.reference
        if (whole := found.judged) is not None:
            return Scored(found.schema, whole.outcomes, whole.predictions, whole.probabilities)
        rows = Scored(found.schema, self.reference.outcomes, found.predictions, found.probabilities)
        return rows.only(known(found.schema, self.reference.outcomes))

    @cached_property
    def measured(self) -> Mapping[str, Measured]:
        """The metrics of all rows."""
        return {} if self.missing or self.scored is None else self.scored.measure(ordered=self._ordered)

    @property
    def _ordered(self) -> bool:
        return self.reference is not None and self.reference.times is not None

    def of(self, feature: int | None, value: Scalar) -> Mapping[str, Measured]:
        """Measure the rows in which a feature has a value; give none where they are few.

        None too for a key of the context, which the reference does not hold.
        """
        found = self.reference
        if feature is None or found is None or found.outcomes is None or self.scored is None or self.missing:
            return {}
        alone = replace(found.schema, features=(found.schema.features[feature],))
        code = encode(alone, [(value,)])[0][0]
        rows, chosen = self._rows_with(feature, code)
        return rows.only(chosen).measure(ordered=self._ordered) if chosen.sum() >= MIN_ROWS else {}

    def _rows_with(self, feature: int, code: float) -> tuple[Scored, NDArray[np.bool_]]:
        """Give the rows whose value of a feature is kept, and tell which of them have this one."""
        found = self.reference
        assert found is not None and found.outcomes is not None  # noqa: S101,PT018 - who asks has outcomes
        if found.judged is not None and self.scored is not None and feature in found.judged.columns:
            return self.scored, found.judged.columns[feature] == code
        rows = Scored(found.schema, found.outcomes, found.predictions, found.probabilities)
        there = known(found.schema, found.outcomes)
        return rows.only(there), found.columns[feature][there] == code


@lru_cache(maxsize=4)
def baseline_of(reference: Reference | None) -> Baseline:
    """Give the baseline of a reference, measured once for all checks of a process."""
    return Baseline(reference)


@dataclass(frozen=True, slots=True)
class Margin:
    """Compute the limit of one metric: ``factor * baseline + sign * points``.

    ``sign`` is 1 where more is worse.
    """

    sign: int
    factor: float
    points: float

    def limit(self, baseline: float) -> float:
        """Give the value from which on the metric is worse than the user accepts."""
        return self.factor * baseline + self.sign * self.points

    def exceeded(self, found: Measured, baseline: Measured, confidence: float) -> bool:
        """Tell whether the metric lies beyond its limit with confidence.

        The uncertainty of metric and baseline counts.

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
    metric = METRIC[name]
    match metric.better:
        case "zero":
            sign = 1 if found >= baseline[name] else -1
        case "lower":
            sign = 1
        case "higher":
            sign = -1
    match metric.limit:
        case "points":
            return Margin(sign, 1.0, allowed)
        case "share of the baseline":
            return Margin(sign, 1 + sign * allowed, 0.0)
        case "share of the baseline's MAE":
            return Margin(sign, 1.0, allowed * baseline["mae"])


def _value(measured: Measured) -> float:
    return math.nan if measured.value is None else measured.value


def _reach(measured: Measured, confidence: float, side: int) -> float:
    """Give the distance from the value to its upper (1) or lower (-1) bound, or none if exact."""
    if measured.interval is None:
        return 0.0
    return max(side * (measured.interval.bounds(confidence)[side > 0] - _value(measured)), 0.0)


SHOWN_CONFIDENCE = 0.95
GROUPS = 2
"""Realised and estimated performance share the false-alarm probability of a look, each with its segments."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """Hold the limits that separate a worse model from noise in one look.

    Attributes:
        allowed: how far a share may fall below its baseline, in points; for errors, the relative rise above it.
        alpha: false-alarm probability of this look for the performance family, its share of the budget already taken.
        min_labelled: below this many outcomes there is no verdict.
    """

    allowed: float = 0.05
    alpha: float = 0.01
    min_labelled: int = 50


@dataclass(frozen=True, slots=True)
class Judge:
    """Grades the metrics of a window, or of one segment of it.

    Attributes:
        groups: how many share the look's false-alarm probability: all rows, and each segment.
        start, end: times of the window's first and last row as RFC 3339, which sorts as text.
        counted: what the rows are that a verdict needs enough of.
    """

    limits: Degradation
    groups: int
    start: str
    end: str
    counted: str = "rows with outcomes"

    def grade(
        self,
        found: Mapping[str, Measured],
        baseline: Mapping[str, Measured],
        before: Mapping[str, Metric],
        *,
        rows: int,
    ) -> dict[str, Metric]:
        """Give each metric its interval, baseline, limit and status.

        ``before`` holds the entries of the look before.

        All metrics with a baseline take equal parts of the false-alarm probability (Bonferroni), so that together they
        keep it. What is degraded stays so until the window has none of the rows left that last showed it.
        """
        judged = {name for name in found if name in baseline and baseline[name].value is not None}
        tests = self.groups * sum(METRIC[name].tests for name in judged) or 1
        confidence = 1 - 2 * self.limits.alpha / tests if rows >= self.limits.min_labelled else None
        graded = {
            name: self._metric(name, metric, baseline if name in judged else {}, before.get(name), confidence)
            for name, metric in found.items()
        }
        for metric in graded.values():
            if metric["status"] == "insufficient_data":
                metric["withheld"] = self._why(metric, rows)
        return graded

    def _why(self, metric: Metric, rows: int) -> Withheld:
        """Say why a metric has no verdict, and what would make it possible."""
        least = self.limits.min_labelled
        if rows < least:
            return {
                "reason": f"{rows} {self.counted}, {least} are needed",
                "needs": f"{least - rows} more {self.counted}",
            }
        if metric["value"] is None:
            return {"reason": "it is undefined for these outcomes", "needs": "outcomes of each class, or that differ"}
        return {
            "reason": "there is no baseline to compare with",
            "needs": f"a holdout in the bundle that the model was not fitted on: {MIN_ROWS} rows like these or more",
        }

    def _metric(
        self,
        name: str,
        found: Measured,
        baseline: Mapping[str, Measured],
        before: Metric | None,
        confidence: float | None,
    ) -> Metric:
        known = {other: each.value for other, each in baseline.items() if each.value is not None}
        if name not in known or found.value is None:
            return _metric(found, known.get(name), None, "insufficient_data")
        limit = margin(name, found.value, known, self.limits.allowed)
        edge = limit.limit(known[name])
        if confidence is None:
            return _metric(found, known[name], edge, "insufficient_data")
        worse = limit.exceeded(found, baseline[name], confidence)
        opened = before if before and before["status"] == "degraded" else None
        if worse or (opened and self.start <= opened["last_degraded_at"]):
            since, last = opened["since"] if opened else self.end, self.end
            if opened and not worse:
                last = opened["last_degraded_at"]
            return _metric(found, known[name], edge, "degraded") | {"since": since, "last_degraded_at": last}
        better = METRIC[name].better != "zero" and limit.bettered(found, baseline[name], confidence)
        return _metric(found, known[name], edge, "improved" if better else "ok")


_WORST_FIRST: tuple[Grade, ...] = ("degraded", "improved", "ok")


def overall(graded: Iterable[Metric]) -> Grade:
    """Sum up: the worst news first; without any verdict, ``insufficient_data``."""
    statuses = {metric["status"] for metric in graded}
    return next((status for status in _WORST_FIRST if status in statuses), "insufficient_data")


def _metric(found: Measured, baseline: float | None, limit: float | None, status: Grade) -> Metric:
    low, high = (None, None) if found.interval is None else found.interval.bounds(SHOWN_CONFIDENCE)
    return {
        "value": found.value,
        "low": _finite(low),
        "high": _finite(high),
        "baseline": baseline,
        "limit": limit,
        "status": status,
    }


def _finite(bound: float | None) -> float | None:
    return bound if bound is not None and math.isfinite(bound) else None
