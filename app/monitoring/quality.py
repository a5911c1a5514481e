"""Data quality: what is broken in the input, judged against what the reference shows to be normal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.binning import UNSEEN
from app.monitoring.columns import ReferenceColumn
from app.monitoring.findings import quality_tests
from app.monitoring.independence import Independence
from app.monitoring.limits import Limits
from app.monitoring.quality_features import feature_findings
from app.monitoring.quality_rule import Rule
from app.monitoring.quality_traffic import traffic_findings
from app.monitoring.reference import Reference
from app.store.arrivals import Arrivals
from app.types import Json, ModelSchema

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
        findings = _window_findings(schema, reference, columns, predictions, alpha, limits.material_share)
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
) -> list[Json]:
    rule = Rule(alpha, material, reference.rows, len(columns[0]))
    findings: list[Json] = []
    sound = []
    for feature, ours, theirs in zip(schema.features, reference.features, columns, strict=True):
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
