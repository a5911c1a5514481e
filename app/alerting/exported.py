"""The alerts as a metric: facts of the shared store, the same on every replica."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.alerting.ruleset import RuleSet
from app.store.alerts import Alert
from app.types import ModelSchema


class FiringAlerts(Collector):
    """``ml_alerts_firing``: 1 for a rule that fires, else 0; whoever scrapes brings all it shows up to date first."""

    def __init__(self, schema: ModelSchema, rules: RuleSet) -> None:
        self.schema = schema
        self._rules = rules
        self.firing: Sequence[Alert] = ()

    def collect(self) -> Iterator[Metric]:
        """One sample for every rule with its severity, and with the one it fires with, where that is another."""
        family = GaugeMetricFamily(
            "ml_alerts_firing", "1 while the rule fires", labels=["model_name", "model_version", "rule", "severity"]
        )
        samples = dict.fromkeys(self._rules.severities(self.schema.task), 0.0)
        samples |= {(alert.rule, alert.finding.severity): 1.0 for alert in self.firing}
        for (rule, severity), value in samples.items():
            family.add_metric([self.schema.name, self.schema.version, rule, severity], value)
        yield family


class DeliveryMetrics:
    """What became of messages, over all channels: a channel's name is not for everybody who may scrape."""

    def __init__(self, registry: CollectorRegistry) -> None:
        deliveries = Counter(
            "ml_alert_deliveries",
            "Messages delivered, tries that failed, messages given up",
            ["result"],
            registry=registry,
        )
        self.delivered, self.retried, self.expired = map(deliveries.labels, ("delivered", "retried", "expired"))
        self.rows = Gauge("ml_alert_outbox_rows", "Messages that wait to be delivered", registry=registry)
