"""Write the Grafana dashboards in ``deploy/grafana`` from the series of the service: ``python -m scripts.dashboards``.

A panel that names a series or a label that the service does not have is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from app.alerting.delivery import DeliveryMetrics, FiringAlerts
from app.alerting.rules.configured import RuleSet
from app.api.endpoints.probes import RequestCounts
from app.metrics import JournalMetrics, ServingMetrics, new_registry
from app.monitoring.metrics import LatestReports, check_durations
from app.serving.value_histograms import ServedValues
from app.types import ModelSchema, Task

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "dashboards"
MODEL = 'model_name="$model_name",model_version=~"$model_version"'
REPLICA = 'instance=~"$instance"'
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
"""The size of a panel on Grafana's grid of 24 columns, and how many stand side by side."""
SUFFIXES = ("_bucket", "_count", "_sum")
SERIES = re.compile(r"\b(?:ml|process)_[a-z0-9_]+\b")


class Query(NamedTuple):
    """One expression of a panel, and what its lines are called."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One panel: a title, a unit of Grafana, and queries."""

    title: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"


class Dashboard(NamedTuple):
    """One dashboard; ``variables`` are the labels that its reader chooses."""

    name: str
    title: str
    variables: Sequence[str]
    panels: Sequence[Panel]


def known_series() -> dict[str, str]:
    """The help text of every series that the service exports, by name."""
    registry = new_registry()
    schema = ModelSchema("m", "1", Task.BINARY, ())
    ServingMetrics(registry).for_model(schema)
    RequestCounts(registry)
    JournalMetrics(registry)
    DeliveryMetrics(registry)
    check_durations(registry)
    ServedValues(registry)
    registry.register(LatestReports(schema, 24))
    registry.register(FiringAlerts(schema, RuleSet()))
    return {name: family.documentation for family in _families(registry) for name in _names(family)}


def _families(registry: CollectorRegistry) -> Iterator[Metric]:
    yield from registry.collect()


def _names(family: Metric) -> Sequence[str]:
    if family.type == "histogram":
        return [family.name + suffix for suffix in SUFFIXES]
    return [family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")]


def rate(series: str, by: str, where: str = REPLICA) -> str:
    """The rate of a counter over all replicas, by a label; an absent series gives no line, and no error."""
    return f"sum by ({by}) (rate({series}{{{where}}}[$__rate_interval]))"


def quantiles(series: str, where: str = REPLICA) -> list[Query]:
    """The median, the 95th and the 99th percentile of a histogram over all replicas."""
    buckets = f"sum by (le) (rate({series}_bucket{{{where}}}[$__rate_interval]))"
    return [Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]


def share(part: str, whole: str) -> str:
    """A part of a whole, 0 where the part has no series, and nothing while the whole is 0."""
    return f"(({part}) or 0 * ({whole})) / (({whole}) > 0)"


def latest(series: str, by: str, where: str = MODEL) -> str:
    """A figure of the latest report: every replica exports the same one."""
    return f"max by ({by}) ({series}{{{where}}})"


def service() -> Dashboard:
    """Requests, latency and the process, for those who run the service."""
    requests = f"sum(rate(ml_requests_total{{{REPLICA}}}[$__rate_interval]))"
    failed = f'sum(rate(ml_requests_total{{status="5xx",{REPLICA}}}[$__rate_interval]))'
    answered = f"sum(rate(ml_prediction_latency_seconds_count{{{REPLICA}}}[$__rate_interval]))"
    fast = f'sum(rate(ml_prediction_latency_seconds_bucket{{le="0.5",{REPLICA}}}[$__rate_interval]))'
    panels = [
        Panel("Requests by class of status", "reqps", [Query(rate("ml_requests_total", "status"), "{{status}}")]),
        Panel("Requests by route", "reqps", [Query(rate("ml_requests_total", "route"), "{{route}}")]),
        Panel("Share of failed requests", "percentunit", [Query(share(failed, requests), "5xx")]),
        Panel("Latency of predictions", "s", quantiles("ml_prediction_latency_seconds")),
        Panel("Share answered within 500 ms", "percentunit", [Query(share(fast, answered), "within 500 ms")]),
        Panel("Errors by reason", "reqps", [Query(rate("ml_request_errors_total", "reason"), "{{reason}}")]),
        Panel(
            "Requests in progress",
            "short",
            [Query(f"sum by (instance) (ml_requests_in_progress{{{REPLICA}}})", "{{instance}}")],
        ),
        Panel("Rows in one call of the model", "short", quantiles("ml_batch_rows")),
        Panel("Stalls of the event loop", "s", quantiles("ml_event_loop_stall_seconds")),
        Panel("Open connections", "short", [Query(f"ml_connections_open{{{REPLICA}}}", "{{instance}}")]),
        Panel("Memory", "bytes", [Query(f"process_resident_memory_bytes{{{REPLICA}}}", "{{instance}}")]),
        Panel(
            "CPU seconds a second",
            "short",
            [Query(f"rate(process_cpu_seconds_total{{{REPLICA}}}[$__rate_interval])", "{{instance}}")],
        ),
    ]
    return Dashboard("service", "Plumbline: service", ("instance",), panels)


def of_version(title: str, unit: str, series: str, kind: str = "timeseries") -> Panel:
    """A panel of one figure of the latest report, for each version."""
    return Panel(title, unit, [Query(latest(series, "model_version"), "version {{model_version}}")], kind)


def of_basis(title: str, basis: str) -> Panel:
    """A panel of the performance metrics on one basis."""
    where = f'basis="{basis}",{MODEL}'
    return Panel(title, "short", [Query(latest("ml_model_performance", "metric", where), "{{metric}}")])


def model() -> Dashboard:
    """Performance, drift, confidence and data quality, for those who answer for the model."""
    psi = latest("ml_drift_statistic", "feature_name", f'statistic="psi",{MODEL}')
    firing = f"sum by (severity) ({latest('ml_alerts_firing', 'rule, severity')})"
    age = f"min by (model_version) (ml_data_freshness_seconds{{{MODEL}}})"
    types = rate("ml_predictions_total", "prediction_type, status", MODEL)
    median = f"histogram_quantile(0.5, {rate('ml_feature_value_bucket', 'feature_name, le', MODEL)})"
    categories = rate("ml_feature_category_total", "feature_name, category", MODEL)
    findings = latest("ml_data_quality_findings", "kind")
    panels = [
        of_version("Has the model drifted?", "bool_yes_no", "ml_drift_overall", "stat"),
        Panel("Alerts that fire", "short", [Query(firing, "{{severity}}")], "stat"),
        Panel("Age of the latest prediction", "s", [Query(age, "version {{model_version}}")], "stat"),
        of_basis("Performance, realised", "realised"),
        of_basis("Performance, estimated without outcomes", "estimated"),
        of_basis("Performance, baseline", "baseline"),
        of_version("Share of rows with an outcome", "percentunit", "ml_label_coverage_ratio"),
        of_version("Share of drifted features", "percentunit", "ml_drift_share"),
        of_version("Largest PSI", "short", "ml_drift_psi_max"),
        Panel("PSI of the ten features with the most", "short", [Query(f"topk(10, {psi})", "{{feature_name}}")]),
        of_version("Smallest adjusted p-value", "sci", "ml_drift_p_value_min"),
        of_version("Drifted features", "short", "ml_drift_drifted_features"),
        Panel("Confidence", "percentunit", quantiles("ml_prediction_confidence", MODEL)),
        Panel("Predicted values", "short", quantiles("ml_prediction_value", MODEL)),
        Panel("Findings of data quality", "short", [Query(findings, "{{kind}}")]),
        Panel("Predictions by type and status", "rowsps", [Query(types, "{{prediction_type}} {{status}}")]),
        Panel("Median of each number", "short", [Query(median, "{{feature_name}}")]),
        Panel("Categories", "rowsps", [Query(categories, "{{feature_name}} {{category}}")]),
    ]
    return Dashboard("model", "Plumbline: model", ("model_name", "model_version"), panels)


def prediction_path() -> Dashboard:
    """The journal, outcomes, checks and messages, for operators."""
    accepted = f'sum by (instance) (ml_journal_rows_total{{state="accepted",{REPLICA}}})'
    settled = f'sum by (instance) (ml_journal_rows_total{{state=~"stored|forwarded",{REPLICA}}})'
    rest = " - ".join(
        f"sum by (instance) ({series}{{{REPLICA}}})"
        for series in ("ml_journal_failed_rows_total", "ml_journal_queue_rows", "ml_journal_spooled_rows")
    )
    panels = [
        Panel("Rows by state", "rowsps", [Query(rate("ml_journal_rows_total", "state"), "{{state}}")]),
        Panel("Ledger: rows that are missing", "short", [Query(f"{accepted} - {settled} - {rest}", "{{instance}}")]),
        Panel("Failed rows by reason", "rowsps", [Query(rate("ml_journal_failed_rows_total", "reason"), "{{reason}}")]),
        Panel("Time of a commit", "s", quantiles("ml_journal_commit_seconds")),
        Panel("Rows that wait for the store", "short", [Query(f"ml_journal_queue_rows{{{REPLICA}}}", "{{instance}}")]),
        Panel("Rows in the spool", "short", [Query(f"ml_journal_spooled_rows{{{REPLICA}}}", "{{instance}}")]),
        Panel("Outcomes by status", "rowsps", [Query(rate("ml_outcomes_total", "status"), "{{status}}")]),
        Panel(
            "Age of the latest check",
            "s",
            [Query(f"time() - (max by (kind) (ml_check_last_success_timestamp_seconds{{{REPLICA}}}) > 0)", "{{kind}}")],
        ),
        Panel("Time of a check", "s", quantiles("ml_check_duration_seconds")),
        Panel("Messages that wait", "short", [Query(f"max(ml_alert_outbox_rows{{{REPLICA}}})", "messages")]),
        Panel("Deliveries of alerts", "short", [Query(rate("ml_alert_deliveries_total", "result"), "{{result}}")]),
        Panel(
            "Activated version is followed",
            "bool_yes_no",
            [Query(f"ml_activation_followed{{{REPLICA}}}", "{{instance}}")],
            "stat",
        ),
    ]
    return Dashboard("prediction-path", "Plumbline: prediction path", ("instance",), panels)


def dashboards() -> list[Dashboard]:
    """All dashboards."""
    return [service(), model(), prediction_path()]


VARIABLES = {
    "instance": "label_values(ml_requests_in_progress, instance)",
    "model_name": "label_values(ml_model_info, model_name)",
    "model_version": 'label_values(ml_model_info{model_name="$model_name"}, model_version)',
}
"""Where the values of a variable come from."""
SOURCE = {"type": "prometheus", "uid": "${source}"}


def rendered(dashboard: Dashboard, series: Mapping[str, str]) -> dict[str, Any]:
    """A dashboard in Grafana's form.

    Raises:
        KeyError: a panel names a series that the service does not have.
    """
    source = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": f"plumbline-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["plumbline"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, *(_variable(name) for name in dashboard.variables)]},
        "panels": [_panel(place, panel, series) for place, panel in enumerate(dashboard.panels)],
    }


def _variable(name: str) -> dict[str, Any]:
    several = name != "model_name"
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": VARIABLES[name], "refId": name},
        "refresh": 2,
        "multi": several,
        "includeAll": several,
        **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if several else {}),
    }


def _panel(place: int, panel: Panel, series: Mapping[str, str]) -> dict[str, Any]:
    row, column = divmod(place, COLUMNS)
    named = dict.fromkeys(name for query in panel.queries for name in SERIES.findall(query.expression))
    return {
        "id": place + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": " ".join(dict.fromkeys(f"{series[name].rstrip('.')}." for name in named)),
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": column * WIDTH, "y": row * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [
            {"refId": name, "datasource": SOURCE, "expr": query.expression, "legendFormat": query.legend}
            for name, query in zip("ABCDEF", panel.queries, strict=False)
        ],
    }


def texts() -> dict[str, str]:
    """The text of each file of ``deploy/grafana/dashboards`` by its name."""
    series = known_series()
    return {
        f"{dashboard.name}.json": json.dumps(rendered(dashboard, series), indent=1) + "\n" for dashboard in dashboards()
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file, text in texts().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
