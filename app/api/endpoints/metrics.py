"""GET /metrics, refreshed from the store."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder

from app.alerting.delivery import FiringAlerts
from app.api.dependencies import ServicesDep, require
from app.api.documentation import answers
from app.errors import Unavailable
from app.monitoring.metrics import LatestReports
from app.serving.registry import Registry
from app.store.database import Readers
from app.store.queries import alerts as stored_alerts
from app.store.queries import reports as stored_reports

REFRESH_S = 1.0
"""How old the reports behind a scrape may be."""


class StoredMetrics:
    """Keeps the metrics of stored reports and alerts up to date.

    While the store is away, the last ones stay.
    """

    def __init__(self, registry: Registry, readers: Readers, latest: LatestReports, alerts: FiringAlerts) -> None:
        self._registry = registry
        self._readers = readers
        self._latest = latest
        self._alerts = alerts
        self._read_at = float("-inf")

    async def refresh(self) -> None:
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


router = APIRouter(tags=["metrics"])


@router.get("/metrics", dependencies=[Depends(require("metrics"))])
@answers(
    None,
    None,
    scope="metrics",
    media={"text/plain": {"type": "string"}, "application/openmetrics-text": {"type": "string"}},
)
async def metrics(request: Request, services: ServicesDep) -> Response:
    """All series; those of reports are from the latest stored report, equal on all replicas."""
    await services.stored_metrics.refresh()
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    # Thousands of series would block the event loop; scrapes that come together share one text.
    body = await services.texts.get(content_type, partial(encode, services.series))
    return Response(body, media_type=content_type)
