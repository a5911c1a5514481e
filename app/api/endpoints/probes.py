"""Answer probes and scrapes.

``/health/live`` is about the process, ``/health/ready`` about the service, and ``/metrics`` has the figures of both.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Literal, NotRequired

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString
from typing_extensions import TypedDict

from app.alerting.delivery import FiringAlerts
from app.api.dependencies import Services, ServicesDep, require
from app.api.documentation import answers
from app.api.http import json_response
from app.background import dead_tasks
from app.errors import Unavailable
from app.metrics import LastPredictions
from app.monitoring.metrics import LatestReports
from app.serving.registry import Registry
from app.store.database import Readers
from app.store.queries import alerts as stored_alerts
from app.store.queries import reports as stored_reports
from app.store.queries.predictions import VersionRows
from app.store.queries.replicas import database_now
from app.types import SECOND

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

    def __init__(
        self,
        registry: Registry,
        readers: Readers,
        latest: LatestReports,
        alerts: FiringAlerts,
        last_predictions: LastPredictions,
    ) -> None:
        self._registry = registry
        self._readers = readers
        self._latest = latest
        self._alerts = alerts
        self._last_predictions = last_predictions
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
            newest = await self._readers.run(VersionRows(*version, None).newest)
            self._last_predictions.note(*version, (newest or 0) / SECOND)
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
    body = await services.texts.get(content_type, partial(render, services.series, encode))
    return Response(body, media_type=content_type)


class _Families(Collector):
    """Some families, as a registry for the library's encoders."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Give them."""
        yield from self._families


def render(series: Collector, encode: Callable[[Collector], bytes]) -> bytes:
    """The text of all series, in the format of one of the library's encoders.

    The encoder writes the heads. Samples are written here: with 200 features the library takes 59 ms of processor time
    for a scrape on a busy machine, and this takes 20.
    """
    end = encode(_Families()).decode()
    parts = []
    for family in series.collect():
        head = Metric(family.name, family.documentation, family.type, family.unit)
        parts.append(encode(_Families(head)).decode().removesuffix(end))
        parts += [
            f"{sample.name}{_labels(sample.labels)} {floatToGoString(sample.value)}\n"  # type: ignore[no-untyped-call]
            for sample in family.samples
        ]
    return "".join([*parts, end]).encode()


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(map(_label, sorted(labels.items()))) + "}" if labels else ""


@lru_cache(maxsize=8192)
def _label(label: tuple[str, str]) -> str:
    name, value = label
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{escaped}"'


STATUS_CLASSES = ("2xx", "4xx", "5xx")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
ERROR_REASONS: Mapping[int, str] = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_late",
    409: "conflict",
    413: "too_large",
    415: "media_type",
    422: "invalid",
    429: "rate_limit",
    500: "internal",
    503: "unavailable",
    504: "deadline",
}
"""The label ``reason`` of ``ml_request_errors_total`` by status; any other status from 400 on is ``other``."""


class RequestCounts(Collector):
    """``ml_requests_total`` and ``ml_request_errors_total``.

    The event loop alone counts, a group of requests at a time.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._routes: dict[tuple[str, str], None] = {}
        self._hot: tuple[str, ...] = ()
        registry.register(self)

    def add_routes(self, routes: Iterable[tuple[str, str]], hot: Iterable[str]) -> None:
        """Show these routes with their methods from the start, and the errors of the hot ones."""
        self._routes |= dict.fromkeys(routes)
        self._hot = tuple(hot)

    def count(self, method: str, route: str, statuses: Sequence[int]) -> None:
        """Count requests for one route, which are answered now."""
        known = method if method in METHODS else "other"
        for status in set(statuses):
            self._counts[known, route, status] += statuses.count(status)

    def collect(self) -> Iterator[Metric]:
        """The counts as they stand; called from the scrape's thread."""
        requests: dict[tuple[str, ...], int] = {
            (route, method, status): 0 for method, route in self._routes for status in STATUS_CLASSES
        }
        reasons = (*ERROR_REASONS.values(), "other")
        errors: dict[tuple[str, ...], int] = {(route, reason): 0 for route in self._hot for reason in reasons}
        for (method, route, status), count in dict(self._counts).items():
            group = (route, method, f"{status // 100}xx")
            requests[group] = requests.get(group, 0) + count
            if status >= min(ERROR_REASONS):
                error = (route, ERROR_REASONS.get(status, "other"))
                errors[error] = errors.get(error, 0) + count
        yield _table("ml_requests", "Requests answered, by class of status", ("route", "method", "status"), requests)
        yield _table("ml_request_errors", "Requests refused or failed, by reason", ("route", "reason"), errors)


def _table(
    name: str, help_text: str, labels: Sequence[str], counts: Mapping[tuple[str, ...], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
