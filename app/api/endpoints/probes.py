"""Answer probes and scrapes.

``/health/live`` is about the process, ``/health/ready`` about the service, and ``/metrics`` has the figures of both.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Literal, NotRequired

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder
from typing_extensions import TypedDict

from app.alerting.delivery import FiringAlerts
from app.api.dependencies import Services, ServicesDep, require
from app.api.documentation import answers
from app.api.http import json_response
from app.background import dead_tasks
from app.errors import Unavailable
from app.monitoring.metrics import LatestReports
from app.serving.registry import Registry
from app.store.database import Readers
from app.store.queries import alerts as stored_alerts
from app.store.queries import reports as stored_reports
from app.store.queries.replicas import database_now

router = APIRouter()


class Live(TypedDict):
    """Whether the process is alive."""

    live: bool


class ReadyChecks(TypedDict):
    """The parts of readiness; the monitor is shown and not needed."""

    model: bool
    journal: bool
    store: bool | Literal["spooling"]
    monitor: bool


class Ready(TypedDict):
    """Whether the service may get traffic."""

    ready: bool
    checks: ReadyChecks
    dead_tasks: NotRequired[list[str]]
    """Background tasks that have ended, where there are any."""
    spooled: NotRequired[int]
    """Rows that wait for the store; where a spool is configured."""


READY: Ready = {"ready": True, "checks": {"model": True, "journal": True, "store": True, "monitor": True}}


@router.get("/health/live", tags=["health"])
@answers(Live, {"live": True}, also={503: ("The process must be restarted", Live, {"live": False})})
async def live(services: ServicesDep) -> Response:
    """200 while the event loop and the writer thread run; the database is not asked."""
    body: Live = {"live": services.journal.alive}
    return json_response(body, 200 if body["live"] else 503)


@router.get("/health/ready", tags=["health"])
@answers(Ready, READY, also={503: ("What is missing", Ready, READY | {"ready": False})})
async def ready(services: ServicesDep) -> Response:
    """Answer 200 when the service can predict and store; else 503 with what is missing.

    A model must be loaded and warmed, and the store must answer or be spooled for.

    ``checks`` says what is missing. Where a background task has ended, ``checks.monitor`` is false and ``dead_tasks``
    names it; the replica stays ready, since predictions go on.
    """
    dead = dead_tasks(services.background)
    checks: ReadyChecks = {
        "model": services.registry.ready,
        "journal": services.journal.alive,
        "store": await _store(services),
        "monitor": not dead,
    }
    is_ready = bool(checks["model"] and checks["journal"] and checks["store"])
    body: Ready = {"ready": is_ready, "checks": checks}
    if dead:
        body["dead_tasks"] = dead
    if services.spooler:
        body["spooled"] = services.spooler.rows
    return json_response(body, 200 if is_ready else 503)


async def _store(services: Services) -> bool | Literal["spooling"]:
    """Tell whether the store answers.

    It is ``spooling``, and not asked, while the spool stands in for it.
    """
    if services.spooler and services.spooler.spooling:
        return "spooling"
    try:
        await services.readers.run(database_now)
    except Unavailable:
        return "spooling" if services.spooler else False
    return True


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


@router.get("/metrics", tags=["metrics"], dependencies=[Depends(require("metrics"))])
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
