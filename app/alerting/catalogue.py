"""The figures of reports by name: what a rule of one's own can watch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.types import ModelSchema, Report, Task

_LABELS = ("accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy")
_PROBABILITIES = ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error")
METRICS: Mapping[Task, tuple[str, ...]] = {
    Task.BINARY: _LABELS + _PROBABILITIES,
    Task.MULTICLASS: _LABELS + _PROBABILITIES,
    Task.REGRESSION: ("mae", "rmse", "mape", "r2", "bias"),
}
STATISTICS = ("psi", "impact", "ks_statistic", "wasserstein", "js_distance", "missing_share")
"""Figures of one feature's drift; Kolmogorov-Smirnov and Wasserstein of numbers only."""
_PLACES: Mapping[str, tuple[str, ...]] = {
    "drift.share": ("drift_share",),
    "drift.prediction.psi": ("prediction", "psi"),
    "drift.joint.auc": ("multivariate", "auc"),
    "data_quality.findings": ("data_quality", "findings"),
    "performance.coverage": ("realised", "coverage"),
    "performance.labelled": ("realised", "labelled"),
    "performance.value_sum": ("business", "value_sum"),
    "performance.value_mean": ("business", "value_mean"),
    "service.error_rate": ("service", "error_rate"),
    "service.p99_seconds": ("service", "p99_seconds"),
    "service.rows": ("service", "rows"),
    "service.refused": ("service", "refused"),
}
"""Where each figure stands in the body of its report."""
_FEATURE = "drift.feature."
SEGMENTED = "performance.realised."
"""The figures that are known by segment too."""


def known_figures(schema: ModelSchema) -> Iterator[str]:
    """Every figure of a model's reports."""
    yield from _PLACES
    for feature in schema.feature_names:
        yield from (f"{_FEATURE}{feature}.{statistic}" for statistic in STATISTICS)
    for basis in ("realised", "estimated"):
        yield from (f"performance.{basis}.{metric}" for metric in METRICS[schema.task])


def kind_of(figure: str) -> str:
    """The kind of report that has a figure; data quality is judged with drift."""
    return figure.split(".", 1)[0].replace("data_quality", "drift")


def feature_of(figure: str) -> str | None:
    """The feature that a figure speaks of; its name may hold dots."""
    return figure.removeprefix(_FEATURE).rpartition(".")[0] if figure.startswith(_FEATURE) else None


def look_up(figure: str, report: Report, segment: str | None = None) -> float | None:
    """A figure of a report, of one segment's rows where one is named; None where the report has none."""
    found: Any = report.body
    for key in _place(figure, segment):
        found = found.get(key) if isinstance(found, dict) else None
    return float(len(found)) if isinstance(found, list) else found


def _place(figure: str, segment: str | None) -> tuple[str, ...]:
    if figure in _PLACES:
        return _PLACES[figure]
    *_, basis, last = figure.split(".")
    feature = feature_of(figure)
    if feature is not None:
        return ("features", feature, *(("current",) if last == "missing_share" else ()), last)
    part = ("segments", *segment.split("=", 1)) if segment else (basis,)
    return (*part, "metrics", last, "value")
