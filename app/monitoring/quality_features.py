"""What may be broken in one feature of the window, judged against its reference column."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.binning import MISSING, UNSEEN
from app.monitoring.columns import ReferenceColumn
from app.monitoring.findings import make_finding
from app.monitoring.independence import Independence, Inflation
from app.monitoring.quality_rule import Rule
from app.monitoring.statistics import FloatArray
from app.types import Feature, FeatureType, Json

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
