"""Data quality of a window: missing, out of range, unseen, constant, repeated, imbalanced."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.false_alarm_budget import Limits
from app.monitoring.quality.traffic import make_finding, quality_tests, traffic_findings
from app.monitoring.reference.columns import MISSING, UNSEEN, ReferenceColumn
from app.monitoring.reference.reference import Reference
from app.statistics import FloatArray, share_p_values
from app.statistics.autocorrelation import Independence, Inflation
from app.store.queries.windows import Arrivals
from app.store.throttle import Pause, no_pause
from app.types import Feature, FeatureType, Json, ModelSchema


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


_FENCE = 3.0
"""Interquartile ranges beyond the quartiles from which a value is far out: Tukey (1977), Exploratory Data Analysis."""
_FROZEN_SHARE = 0.1
_FEW = 100
"""Values that are looked at before all are: most numbers with fractions show one among them."""
_RARE = 0.05
"""A value of at most this share in the reference does not repeat by itself."""


def feature_findings(
    feature: Feature, ours: ReferenceColumn, theirs: NDArray[Any], rule: Rule, *, in_sample: bool
) -> Iterator[Json]:
    """Yield what is wrong with a feature, in a window's column ``theirs`` that is in order of time."""
    categorical = feature.type is FeatureType.CATEGORICAL

    @cache
    def null() -> Inflation:
        return Independence.of(theirs).inflation(rule.m, ours.independence, rule.n)

    gaps = replace(rule, inflation=lambda: null().gaps)
    rule = replace(rule, inflation=lambda: null().values)
    gone = ours.values == MISSING if categorical else np.isnan(ours.values)
    lost = theirs == MISSING if categorical else np.isnan(theirs)
    yield from gaps.finding(feature.name, "missing_share", int(gone.sum()), int(lost.sum()), "have no value")
    present = theirs[~lost]
    if len(present) and (present == present[0]).all():
        same = int((ours.values == present[0]).sum())
        yield from rule.finding(feature.name, "constant", same, len(present), "have one and the same value")
    if categorical:
        yield from _unseen(feature.name, ours.values, theirs, rule, in_sample=in_sample)
    elif feature.type.is_number and len(ours.present):
        yield from _frozen(feature.name, ours.present, theirs, rule)
        outside = list(_out_of_range(feature, ours.present, present, rule))
        yield from outside or _outliers(feature.name, ours.present, present, rule)
        yield from _fractions(feature.name, ours.present, present, rule)


def _unseen(name: str, ours: NDArray[Any], theirs: NDArray[Any], rule: Rule, *, in_sample: bool) -> Iterator[Json]:
    """Compare with the reference's rate of novelty.

    That is the share of its own unseen rows. Where it has none, its categories may be known because the schema was made
    of it: then the share of rows whose category occurs once, Good (1953), doi:10.1093/biomet/40.3-4.237. A schema that
    was made of this reference and left categories out says nothing about novelty.
    """
    new = int((ours == UNSEEN).sum())
    if new and in_sample:
        return
    singles = int((np.bincount(ours[ours >= 0]) == 1).sum())
    what = "have a category that the schema does not know"
    yield from rule.finding(name, "unseen_category", new or singles, int((theirs == UNSEEN).sum()), what)


def _frozen(name: str, ours: FloatArray, theirs: FloatArray, rule: Rule) -> Iterator[Json]:
    """Find a number that varied and stands still: the last row's value, rare in the reference, again and again.

    A run of length L has the probability ``share^(L - 1)``, the share being that of the value in the reference.
    """
    last = theirs[-1]
    if np.isnan(last) or (theirs == last).all():
        return
    run = int((theirs[::-1] != last).argmax())
    share = (_between(ours, last, last) + 1) / (rule.n + 1)
    if share > _RARE:
        return
    limit = max(1 + math.ceil(math.log(rule.alpha) / math.log(share)), _FROZEN_SHARE * rule.m) / rule.m
    if run / rule.m >= limit:
        message = f"the latest {run} rows, {run / rule.m:.2%}, have one and the same value; limit {limit:.2%}"
        yield make_finding(name, "frozen", run / rule.m, limit, message)


def _out_of_range(feature: Feature, ours: FloatArray, theirs: FloatArray, rule: Rule) -> Iterator[Json]:
    """Test each side by itself: one side's test is exact also where the bound is the reference's own extreme."""
    if feature.low is not None:
        below = len(ours) - _between(ours, feature.low, np.inf), int((theirs < feature.low).sum())
        yield from rule.finding(feature.name, "out_of_range", *below, f"lie below {feature.low:g}")
    if feature.high is not None:
        above = len(ours) - _between(ours, -np.inf, feature.high), int((theirs > feature.high).sum())
        yield from rule.finding(feature.name, "out_of_range", *above, f"lie above {feature.high:g}")


def _outliers(name: str, ours: FloatArray, theirs: FloatArray, rule: Rule) -> Iterator[Json]:
    first, third = ours[len(ours) // 4], ours[3 * len(ours) // 4]
    low, high = first - _FENCE * (third - first), third + _FENCE * (third - first)
    if low < high:
        outside = len(ours) - _between(ours, low, high), int(((theirs < low) | (theirs > high)).sum())
        yield from rule.finding(name, "outlier_share", *outside, f"lie far outside the usual, [{low:g}, {high:g}]")


def _fractions(name: str, ours: FloatArray, theirs: FloatArray, rule: Rule) -> Iterator[Json]:
    if _is_whole(ours[:_FEW]) and _is_whole(ours):
        fractions = int((theirs != np.floor(theirs)).sum())
        yield from rule.finding(name, "type_change", 0, fractions, "have a fraction")


def _is_whole(values: FloatArray) -> bool:
    return bool((values == np.floor(values)).all())


def _between(values: FloatArray, low: float, high: float) -> int:
    """Count the sorted values in [low, high]."""
    return int(np.searchsorted(values, high, "right") - np.searchsorted(values, low, "left"))


_IMBALANCE = 0.1
"""Smallest rise of the largest class's share that matters; drift of the prediction sees smaller ones."""


def data_quality(
    schema: ModelSchema,
    reference: Reference | None,
    columns: Sequence[NDArray[Any]],
    limits: Limits,
    *,
    predictions: NDArray[Any] | None = None,
    arrivals: Arrivals | None = None,
    pause: Pause = no_pause,
) -> Json:
    """Judge a window's encoded columns, in order of time; the ``data_quality`` of ``GET /drift``.

    A share is a finding when it exceeds the reference's by ``limits.material_share`` and by more than chance: the exact
    test of :func:`share_p_values` at ``limits.quality_alpha``, divided by the number of tests. ``limit`` is the value
    from which on both hold. Without a reference nothing says what is normal, and every share passes.

    Args:
        predictions: the window's answers, encoded; a class that takes over is then found.
        arrivals: when rows came; traffic that drops or ends is then found.
    """
    alpha = limits.quality_alpha / quality_tests(len(schema.features))
    findings = []
    if reference is not None:
        findings = _window_findings(schema, reference, columns, predictions, alpha, limits.material_share, pause)
    if arrivals is not None:
        findings += traffic_findings(arrivals, alpha)
    return {"status": "warning" if findings else "ok", "findings": findings}


def _window_findings(
    schema: ModelSchema,
    reference: Reference,
    columns: Sequence[NDArray[Any]],
    predictions: NDArray[Any] | None,
    alpha: float,
    material: float,
    pause: Pause,
) -> list[Json]:
    rule = Rule(alpha, material, reference.rows, len(columns[0]))
    findings: list[Json] = []
    sound = []
    for feature, ours, theirs in zip(schema.features, reference.features, columns, strict=True):
        pause()
        found = _read(feature.name, feature_findings(feature, ours, theirs, rule, in_sample=reference.in_sample))
        findings += found
        if not found:
            sound.append((ours.values, theirs))
    findings += _duplicates(sound, rule)
    if predictions is not None and schema.classes and not reference.in_sample:
        findings += _imbalance(schema, reference.answers[0], predictions, replace(rule, material=_IMBALANCE))
    return findings


def _read(feature: str | None, findings: Iterator[Json]) -> list[Json]:
    """List the findings; data that cannot be read are a finding as well, and stop nothing else."""
    try:
        return list(findings)
    except (TypeError, ValueError, IndexError) as error:
        return [{"feature": feature, "kind": "unreadable", "value": None, "limit": None, "message": str(error)}]


def _imbalance(schema: ModelSchema, ours: ReferenceColumn, theirs: NDArray[Any], rule: Rule) -> Iterator[Json]:
    """Compare the share of the window's most frequent answer; which one that is was chosen among all classes."""
    largest = int(np.bincount(theirs[theirs >= 0], minlength=1).argmax())
    counts = int((ours.values == largest).sum()), int((theirs == largest).sum())
    rule = replace(
        rule,
        alpha=rule.alpha / len(schema.classes),
        inflation=lambda: Independence.of(theirs).inflation(rule.m, ours.independence, rule.n).values,
    )
    what = f"are answered with {schema.classes[largest]}"
    yield from rule.finding(None, "class_imbalance", *counts, what)


def _duplicates(columns: Sequence[tuple[NDArray[Any], NDArray[Any]]], rule: Rule) -> Iterator[Json]:
    """Compare with as many reference rows as the window has, since repeats grow with the number of rows.

    Takes the columns without a finding of their own: where one went missing or stands still, rows coincide in the rest.
    """
    size = min(rule.n, rule.m)
    same_size = replace(rule, n=size, m=size)
    expected = _repeats([_evenly(ours, size) for ours, _ in columns])
    found = _repeats([_evenly(theirs, size) for _, theirs in columns])
    yield from same_size.finding(None, "duplicates", expected, found, "repeat another row")


def _evenly(column: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Take ``size`` rows; categories that the schema does not know share a code, and count as different ones."""
    # Adding zero turns -0.0 into 0.0: rows are compared by their bytes.
    taken = column[np.arange(size) * len(column) // size].astype(np.float64) + 0.0
    return taken if column.dtype.kind == "f" else np.where(taken == UNSEEN, UNSEEN - 1.0 - np.arange(size), taken)


def _repeats(columns: Sequence[NDArray[np.float64]]) -> int:
    """Count the rows that are equal to an earlier one."""
    if not columns:
        return 0
    matrix = np.column_stack(columns)
    return len(matrix) - len({row.tobytes() for row in matrix})
