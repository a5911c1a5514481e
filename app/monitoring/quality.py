"""Data quality: what is broken in the input, judged against what the reference shows to be normal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.binning import MISSING, UNSEEN
from app.monitoring.limits import Limits
from app.monitoring.reference import Reference
from app.monitoring.statistics import share_p_values
from app.types import Feature, FeatureType, Json, ModelSchema

_TESTS_PER_FEATURE = 3
"""Missing and constant for all; out of range for numbers, unseen for categories."""


def data_quality(
    schema: ModelSchema, reference: Reference | None, columns: Sequence[NDArray[Any]], limits: Limits
) -> Json:
    """Judge a window's encoded columns; the ``data_quality`` of ``GET /drift``.

    A share is a finding when it exceeds the reference's by ``limits.material_share`` and by more than chance: the exact
    test of :func:`share_p_values` at ``limits.quality_alpha``, divided by the number of tests. ``limit`` is the share
    from which on both hold. Without a reference nothing says what is normal, and every share passes.
    """
    if reference is None:
        return {"status": "ok", "findings": []}
    alpha = limits.quality_alpha / (len(columns) * _TESTS_PER_FEATURE + 1)
    rule = _Rule(alpha, limits.material_share, reference.rows, len(columns[0]))
    findings, sound = [], []
    for feature, ours, theirs in zip(schema.features, reference.columns, columns, strict=True):
        found = _read(feature.name, _feature_findings(feature, ours, theirs, rule))
        findings += found
        if not found:
            sound.append((ours, theirs))
    findings += _duplicates(sound, rule)
    return {"status": "warning" if findings else "ok", "findings": findings}


def _read(feature: str | None, findings: Iterator[Json]) -> list[Json]:
    """List the findings; data that cannot be read are a finding as well, and stop nothing else."""
    try:
        return list(findings)
    except (TypeError, ValueError, IndexError) as error:
        return [{"feature": feature, "kind": "unreadable", "value": None, "limit": None, "message": str(error)}]


@dataclass(frozen=True, slots=True)
class _Rule:
    """When a count out of m window rows is too many, given a count out of n reference rows."""

    alpha: float
    material: float
    n: int
    m: int

    def finding(self, feature: str | None, kind: str, ours: int, theirs: int, what: str) -> Iterator[Json]:
        """Yield one finding, or none."""
        if theirs / self.m < ours / self.n + self.material or not self._significant(ours, theirs):
            return
        limit = max(self._limit(ours, theirs) / self.m, ours / self.n + self.material)
        value = theirs / self.m
        message = f"{value:.2%} of rows {what}; in the reference {ours / self.n:.2%}, limit {limit:.2%}"
        yield {"feature": feature, "kind": kind, "value": value, "limit": limit, "message": message}

    def _significant(self, ours: int, theirs: int) -> bool:
        return float(share_p_values(np.array([ours]), self.n, np.array([theirs]), self.m)[0]) <= self.alpha

    def _limit(self, ours: int, theirs: int) -> int:
        """Find the smallest significant count by bisection, since more is always more significant."""
        normal, excessive = ours * self.m // self.n, theirs
        while excessive - normal > 1:
            middle = (normal + excessive) // 2
            normal, excessive = (normal, middle) if self._significant(ours, middle) else (middle, excessive)
        return excessive


def _feature_findings(feature: Feature, ours: NDArray[Any], theirs: NDArray[Any], rule: _Rule) -> Iterator[Json]:
    name = feature.name
    gone, lost = _missing(feature, ours), _missing(feature, theirs)
    yield from rule.finding(name, "missing_share", int(gone.sum()), int(lost.sum()), "have no value")
    present = theirs[~lost]
    if len(present) and (present == present[0]).all():
        same = int((ours == present[0]).sum())
        yield from rule.finding(name, "constant", same, len(present), "have one and the same value")
    if feature.type is FeatureType.CATEGORICAL:
        new, newer = int((ours == UNSEEN).sum()), int((theirs == UNSEEN).sum())
        yield from rule.finding(name, "unseen_category", new, newer, "have a category that the schema does not know")
    elif feature.low is not None or feature.high is not None:
        bounds = f"lie outside [{_bound(feature.low)}, {_bound(feature.high)}]"
        yield from rule.finding(name, "out_of_range", _outside(feature, ours), _outside(feature, theirs), bounds)


def _missing(feature: Feature, column: NDArray[Any]) -> NDArray[np.bool_]:
    missing = column == MISSING if feature.type is FeatureType.CATEGORICAL else np.isnan(column)
    return np.asarray(missing, dtype=np.bool_)


def _outside(feature: Feature, column: NDArray[Any]) -> int:
    low = -np.inf if feature.low is None else feature.low
    high = np.inf if feature.high is None else feature.high
    return int(((column < low) | (column > high)).sum())


def _bound(bound: float | None) -> str:
    return "any" if bound is None else f"{bound:g}"


def _duplicates(columns: Sequence[tuple[NDArray[Any], NDArray[Any]]], rule: _Rule) -> Iterator[Json]:
    """Compare with as many reference rows as the window has, since repeats grow with the number of rows.

    Takes the columns without a finding of their own: where one went missing or stands still, rows coincide in the rest.
    """
    size = min(rule.n, rule.m)
    same_size = _Rule(rule.alpha, rule.material, size, size)
    expected = _repeats([_evenly(ours, size) for ours, _ in columns])
    found = _repeats([_evenly(theirs, size) for _, theirs in columns])
    yield from same_size.finding(None, "duplicates", expected, found, "repeat another row")


def _evenly(column: NDArray[Any], size: int) -> NDArray[Any]:
    return column[np.arange(size) * len(column) // size]


def _repeats(columns: Sequence[NDArray[Any]]) -> int:
    """Count the rows that are equal to an earlier one."""
    if not columns:
        return 0
    # Adding zero turns -0.0 into 0.0: rows are compared by their bytes.
    matrix = np.column_stack(columns).astype(np.float64) + 0.0
    return len(matrix) - len({row.tobytes() for row in matrix})
