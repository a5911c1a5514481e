"""Export the latest stored reports as metrics, the same on every replica."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from app.figures.drift import DRIFT_STATISTICS, DRIFT_SUMMARIES, finding_kinds
from app.figures.performance import PERFORMANCE_METRICS
from app.monitoring.check_request import KINDS
from app.reports.drift import DriftReport
from app.reports.performance import PerformanceReport
from app.types import SECOND, ModelSchema, Report

CHECK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def check_durations(registry: CollectorRegistry) -> Histogram:
    """``ml_check_duration_seconds``, of the checks that this replica ran."""
    durations = Histogram(
        "ml_check_duration_seconds", "Time of one check", ["kind"], buckets=CHECK_BUCKETS, registry=registry
    )
    for kind in KINDS:
        durations.labels(kind)
    return durations


class LatestReports(Collector):
    """Export gauges of the latest report of each kind.

    The caller brings all of them up to date before a scrape.
    """

    def __init__(self, schema: ModelSchema, window_hours: float) -> None:
        self.schema = schema
        self._window_hours = window_hours
        self.reports: dict[str, Report] = {}

    def collect(self) -> Iterator[Metric]:
        """Give every gauge.

        Without a report a gauge has no samples; the time of the last check is then 0.
        """
        last = self._family("ml_check_last_success_timestamp_seconds", "Time of the latest check", "kind")
        for kind in KINDS:
            self._add(last, self.reports[kind].checked_at / SECOND if kind in self.reports else 0.0, kind)
        yield last
        yield from self._drift(self.reports["drift"].drift if "drift" in self.reports else None)
        yield from self._performance(self.reports["performance"].performance if "performance" in self.reports else None)

    def _drift(self, body: DriftReport | None) -> Iterator[Metric]:
        statistics = self._family(
            "ml_drift_statistic", "Drift statistics of the latest report", "feature_name", "statistic"
        )
        detected = self._family("ml_drift_detected", "1 for a drifted feature", "feature_name")
        limits = self._family("ml_drift_limit", "Limits of the latest report", "limit")
        share = self._family("ml_drift_share", "Share of drifted features")
        overall = self._family("ml_drift_overall", "1 while the model has drifted, as /drift says, else 0")
        self._add(overall, float(body is not None and body.get("status") == "drift"))
        findings = self._family("ml_data_quality_findings", "Findings of data quality by kind", "kind")
        features = body.get("features", {}) if body else {}
        for name in self.schema.feature_names:
            entry: Mapping[str, Any] = features.get(name, {})
            self._add(detected, float(entry.get("status") == "drift"), name)
            for statistic in DRIFT_STATISTICS:
                self._add(statistics, statistic.value_in(entry), name, statistic.name)
                if statistic.noise_floor is not None:
                    self._add(statistics, entry.get(statistic.noise_floor), name, statistic.noise_floor)
        found: list[str] = []
        if body:
            self._add(limits, body.get("limits", {}).get("alpha_per_look"), "alpha_per_look")
            self._add(limits, body.get("limits", {}).get("material_psi"), "material_psi")
            self._add(share, body.get("drift_share"))
            found = [finding["kind"] for finding in body.get("data_quality", {}).get("findings", [])]
        for kind in finding_kinds():
            self._add(findings, float(found.count(kind)), kind)
        yield from (statistics, detected, limits, share, overall, findings)
        for summary in DRIFT_SUMMARIES:
            family = self._family(summary.series, summary.description.rstrip("."))
            self._add(family, summary.value_in(body) if body else None)
            yield family

    def _performance(self, body: PerformanceReport | None) -> Iterator[Metric]:
        performance = self._family("ml_model_performance", "Performance by metric", "metric", "basis")
        accuracy = self._family("ml_model_accuracy", "Realised accuracy", "window_hours")
        coverage = self._family("ml_label_coverage_ratio", "Share of the window's rows with an outcome")
        value = self._family("ml_business_value", "Sum of the business values in the window")
        if body:
            realised = body.get("realised", {})
            known, estimated = realised.get("metrics", {}), body.get("estimated", {}).get("metrics", {})
            for name in (metric.name for metric in PERFORMANCE_METRICS):
                self._add(performance, known[name]["value"] if name in known else None, name, "realised")
                self._add(performance, known[name]["baseline"] if name in known else None, name, "baseline")
                self._add(performance, estimated[name]["value"] if name in estimated else None, name, "estimated")
            self._add(accuracy, known["accuracy"]["value"] if "accuracy" in known else None, f"{self._window_hours:g}")
            self._add(coverage, realised.get("coverage"))
            self._add(value, body.get("business", {}).get("value_sum"))
        yield from (performance, accuracy, coverage, value)

    def _family(self, name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, help_text, labels=["model_name", "model_version", *labels])

    def _add(self, family: GaugeMetricFamily, value: float | None, *labels: str) -> None:
        if value is not None:
            family.add_metric([self.schema.name, self.schema.version, *labels], float(value))
