"""The alerts as a metric: facts of the shared store, the same on every replica."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.alerting.rules import severities
from app.store.alerts import Alert
from app.types import ModelSchema


class FiringAlerts(Collector):
    """``ml_alerts_firing``: 1 for a rule that fires, else 0; whoever scrapes brings ``firing`` up to date first."""

    def __init__(self, schema: ModelSchema) -> None:
        self._schema = schema
        self.firing: Sequence[Alert] = ()

    def collect(self) -> Iterator[Metric]:
        """One sample for every rule."""
        family = GaugeMetricFamily(
            "ml_alerts_firing", "1 while the rule fires", labels=["model_name", "model_version", "rule", "severity"]
        )
        rules = {alert.rule for alert in self.firing}
        for rule, severity in severities(self._schema.task).items():
            family.add_metric([self._schema.name, self._schema.version, rule, severity], float(rule in rules))
        yield family
