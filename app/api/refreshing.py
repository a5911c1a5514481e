"""The metrics that speak of the shared store, brought up to date before a scrape."""

from __future__ import annotations

import time
from contextlib import suppress

from app.alerting.exported import FiringAlerts
from app.errors import Unavailable
from app.monitoring.exported import LatestReports
from app.serving.registry import Registry
from app.store import alerts as stored_alerts
from app.store import reports as stored_reports
from app.store.readers import Readers

REFRESH_S = 1.0
"""How old the reports behind a scrape may be."""


class Refresh:
    """Brings the exported reports and alerts to the active version; while the store is away, the last known stay."""

    def __init__(self, registry: Registry, readers: Readers, latest: LatestReports, alerts: FiringAlerts) -> None:
        self._registry = registry
        self._readers = readers
        self._latest = latest
        self._alerts = alerts
        self._read_at = float("-inf")

    async def __call__(self) -> None:
        """Read the latest reports and alerts, unless they were read a moment ago."""
        if time.monotonic() - self._read_at < REFRESH_S:
            return
        self._read_at = time.monotonic()
        with suppress(Unavailable):
            schema = self._registry.active.schema
            version = (schema.name, schema.version)
            reports = await self._readers.run(stored_reports.latest_of_each, *version)
            firing = await self._readers.run(stored_alerts.firing, *version)
            self._latest.schema, self._latest.reports = schema, reports
            self._alerts.schema, self._alerts.firing = schema, firing
