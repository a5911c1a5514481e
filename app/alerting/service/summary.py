"""Summaries of some time, and the digest that sends them.

A summary has requests, latency, metrics, alerts and drifted features.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, TypeAlias

import structlog
from typing_extensions import TypedDict

from app.alerting.channels.routes import Route, outbox_routes
from app.alerting.rules.service import TARGET_S, quantile_of
from app.metrics import LATENCY_BUCKETS, Latency, ServingMetrics
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.queries import outbox, reports
from app.store.queries.replicas import database_now
from app.store.queries.reports import SLOT_S, Figure, merge_figures, slot_of
from app.types import SECOND, Json, Micros, ModelSchema, VersionSource, to_rfc3339

Version: TypeAlias = tuple[str, str]
"""Name and version of a model."""
_BOUNDS = [*(f"latency.{bound:g}" for bound in LATENCY_BUCKETS), "latency.inf"]


class LatencySummary(TypedDict):
    """Quantiles of the latency of answered requests, in seconds; interpolated within a bucket."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class MetricSummary(TypedDict):
    """One metric over the reports of the time."""

    average: float
    min: float
    max: float
    last: float


_Times = TypedDict("_Times", {"from": str, "to": str})


class Summary(_Times):
    """The figures of one version over some time."""

    model_name: str
    model_version: str
    requests: int
    """Requests for predictions: answered, refused (4xx) and failed (5xx)."""
    refused: int
    failed: int
    success_share: float | None
    latency_seconds: LatencySummary
    latency_target_seconds: float
    share_under_target: float | None
    metrics: dict[str, MetricSummary]
    """Realised metrics, from the outcomes."""
    estimated_metrics: dict[str, MetricSummary]
    alerts: dict[str, int]
    """Alerts that fired in this time, by rule."""
    drifted_features: list[str]
    """Those that drifted in most reports first."""
    missing: list[str]
    """The figures that are not there, and the reason."""


class RequestsStep(_Times):
    """The requests for predictions in one part of some time."""

    requests: int
    refused: int
    failed: int
    latency_seconds: LatencySummary
    share_under_target: float | None


class ReplicaRequests:
    """Counts of this replica's requests, and those of them that are not in the store yet."""

    def __init__(self, serving: ServingMetrics) -> None:
        self._latency = serving.latency
        self._saved: dict[Version, tuple[int, ...]] = {}
        self._saved_totals: dict[Version, float] = {}
        self.turn = asyncio.Lock()
        """Held while counts go to the store, and while both are read: each request counts once."""

    def unsaved(self, version: Version) -> dict[str, Figure]:
        """The figures of a version that are not in the store."""
        latency = self._latency.labels(*version)
        counts, saved = _counts(latency), self._saved.get(version)
        new = [now - before for now, before in zip(counts, saved or (0,) * len(counts), strict=True)]
        if not any(new):
            return {}
        *latencies, refused, failed = new
        total = latency.total - self._saved_totals.get(version, 0.0)
        found = {
            "requests.answered": Figure(sum(latencies), total, 0.0, latency.slowest),
            "requests.refused": Figure(refused),
            "requests.failed": Figure(failed),
            **{name: Figure(count) for name, count in zip(_BOUNDS, latencies, strict=True)},
        }
        return {name: figure for name, figure in found.items() if figure.count}

    async def save(self, journal: Journal) -> None:
        """Add what is new to the store.

        Raises:
            Unavailable: the store cannot be reached; the counts are kept.
        """
        async with self.turn:
            versions = list(self._latency.versions)
            found = {version: new for version in versions if (new := self.unsaved(version))}
            if not found:
                return
            counts = {version: _counts(self._latency.labels(*version)) for version in found}
            totals = {version: self._latency.labels(*version).total for version in found}
            slowest = {version: self._latency.labels(*version).slowest for version in found}
            await journal.run(partial(_add, found=found))
            self._saved |= counts
            self._saved_totals |= totals
            for version, seconds in slowest.items():
                latency = self._latency.labels(*version)
                if latency.slowest == seconds:
                    latency.slowest = 0.0


def _counts(latency: Latency) -> tuple[int, ...]:
    return (*latency.counts, latency.refused, latency.failed)


def _add(connection: Connection, found: Mapping[Version, Mapping[str, Figure]]) -> None:
    now = database_now(connection)
    for version, new in found.items():
        reports.add_figures(connection, *version, new, at=now)


def read_summary(
    connection: Connection, schema: ModelSchema, *, start: Micros, end: Micros, unsaved: Mapping[str, Figure]
) -> Summary:
    """The summary of a version from the slot of ``start`` on and before ``end``.

    Args:
        unsaved: figures that are not in the store yet.
    """
    start = slot_of(start)
    found = merge_figures(
        [reports.read_figures(connection, schema.name, schema.version, start=start, end=end), unsaved]
    )
    alerts = reports.count_alerts(connection, schema.name, schema.version, start=start, end=end)
    step = _requests(found, start, end)
    requests = step["requests"]
    drifted = sorted(_named(found, "drift."), key=lambda feature: (-found[f"drift.{feature}"].count, feature))
    return {
        "model_name": schema.name,
        "model_version": schema.version,
        **step,
        "success_share": _count(found, "requests.answered") / requests if requests else None,
        "latency_target_seconds": TARGET_S,
        "metrics": _metrics(found, "realised."),
        "estimated_metrics": _metrics(found, "estimated."),
        "alerts": alerts,
        "drifted_features": drifted,
        "missing": _missing(found, requests),
    }


def read_requests(
    connection: Connection,
    schema: ModelSchema,
    *,
    start: Micros,
    end: Micros,
    points: int,
    unsaved: Mapping[str, Figure],
) -> list[RequestsStep]:
    """The requests of a version in at most so many parts of a time; the last one goes on.

    Args:
        unsaved: figures of the last part that are not in the store yet.
    """
    if start >= end:
        return []
    start, slot = slot_of(start), SLOT_S * SECOND
    part = slot * -(-(end - start) // (slot * points))
    names = ("requests.", "latency.")
    found = reports.figures_by_part(connection, schema.name, schema.version, names, start=start, end=end, part=part)
    begins = range(start, end, part)
    last = len(begins) - 1
    found[last] = merge_figures([found.get(last, {}), unsaved])
    return [
        _requests(found.get(number, {}), Micros(begin), Micros(min(begin + part, end)))
        for number, begin in enumerate(begins)
    ]


def _requests(found: Mapping[str, Figure], start: Micros, end: Micros) -> RequestsStep:
    answered, refused, failed = (_count(found, f"requests.{name}") for name in ("answered", "refused", "failed"))
    slowest = found["requests.answered"].high if answered else None
    counts = [_count(found, name) for name in _BOUNDS]
    fast = sum(counts[: LATENCY_BUCKETS.index(TARGET_S) + 1])
    return {
        "from": to_rfc3339(start),
        "to": to_rfc3339(end),
        "requests": answered + refused + failed,
        "refused": refused,
        "failed": failed,
        "latency_seconds": {
            "p50": _quantile(counts, 0.5, slowest),
            "p95": _quantile(counts, 0.95, slowest),
            "p99": _quantile(counts, 0.99, slowest),
            "max": slowest,
        },
        "share_under_target": fast / answered if answered else None,
    }


def _count(found: Mapping[str, Figure], name: str) -> int:
    return found[name].count if name in found else 0


def _named(found: Mapping[str, Figure], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in found if name.startswith(prefix)]


def _quantile(counts: Sequence[int], share: float, slowest: float | None) -> float | None:
    """A quantile of the latency, no longer than the slowest request."""
    found = quantile_of(counts, share)
    return None if found is None or slowest is None else min(found, slowest)


def _metrics(found: Mapping[str, Figure], prefix: str) -> dict[str, MetricSummary]:
    parts = {name: found[f"{prefix}{name}"] for name in sorted(_named(found, prefix))}
    return {
        name: {"average": each.total / each.count, "min": each.low, "max": each.high, "last": each.last}
        for name, each in parts.items()
    }


def _missing(found: Mapping[str, Figure], requests: int) -> list[str]:
    missing = [] if requests else ["requests: no request for a prediction came in this time"]
    checks = "a check runs when enough rows are stored, or with POST /checks"
    if "reports.performance" not in found:
        missing.append(f"metrics: no performance check ended in this time; {checks}")
    elif not _named(found, "realised."):
        missing.append("metrics: too few outcomes are known; send them to POST /outcome")
    if "reports.drift" not in found:
        missing.append(f"drifted_features: no drift check ended in this time; {checks}")
    return missing


Every: TypeAlias = Literal["daily", "weekly"]
DAY = 86_400 * SECOND
LENGTHS: Mapping[Every, int] = {"daily": DAY, "weekly": 7 * DAY}
_FIRST = 4 * DAY + 8 * 3600 * SECOND
"""Monday, 5 January 1970, at 8 h UTC: digests come at this hour, the weekly one on this weekday."""


def last_period(now: Micros, every: Every) -> tuple[Micros, Micros]:
    """The last whole day or week before a moment, from 8 h UTC on.

    >>> [to_rfc3339(moment)[:16] for moment in last_period(Micros(1_790_000_000 * SECOND), "weekly")]
    ['2026-09-14T08:00', '2026-09-21T08:00']
    """
    length = LENGTHS[every]
    end = now - (now - _FIRST) % length
    return Micros(end - length), Micros(end)


class Digest:
    """Sends the summary of each day or week to every channel, once for all replicas.

    The store holds the end of the last period that was sent. So a restart sends no digest twice, and a service that was
    down at 8 h sends it when it is back.

    Args:
        clock: the database's clock.
    """

    def __init__(
        self,
        every: Every | None,
        routes: Sequence[Route],
        address: str,
        versions: VersionSource,
        journal: Journal,
        readers: Readers,
        *,
        clock: Callable[[Connection], Micros] = database_now,
    ) -> None:
        self._every = every
        self._routes = outbox_routes(routes)
        self._address = address
        self._versions = versions
        self._journal = journal
        self._readers = readers
        self._clock = clock
        self._done: tuple[str, Micros] | None = None
        self._log = structlog.get_logger("digest")

    async def run(self) -> None:
        """Send the digest of the last period, unless that was done.

        Raises:
            Unavailable: the store cannot be reached.
        """
        if self._every is None or not self._routes:
            return
        active = self._versions.served().active
        now = await self._readers.run(self._clock)
        start, end = last_period(now, self._every)
        if self._done == (active.name, end):
            return
        summary = await self._readers.run(partial(read_summary, schema=active, start=start, end=end, unsaved={}))
        if await self._journal.run(partial(self._enqueue, summary=summary, end=end, now=now)):
            self._log.info("digest_sent", start=summary["from"], end=summary["to"])
        self._done = (active.name, end)

    def _enqueue(self, connection: Connection, summary: Summary, end: Micros, now: Micros) -> bool:
        """Store the messages, once over all replicas.

        There are none of the period in which the service was first there.
        """
        key = f"digest/{self._every}/{summary['model_name']}"
        if not outbox.advance(connection, key, end):
            return False
        body = render_digest(summary, self._address, key=f"{key}/{end}")
        for route in self._routes:
            outbox.enqueue(connection, channel=route.channel.name, event="digest", key=body["key"], body=body, now=now)
        return True


def render_digest(summary: Summary, address: str, *, key: str) -> Json:
    """The message of a digest: ``title``, ``text``, ``kind`` and ``key``."""
    start, end = (moment[:16].replace("T", " ") for moment in (summary["from"], summary["to"]))
    seconds = summary["latency_seconds"]
    quantiles = (("p50", seconds["p50"]), ("p95", seconds["p95"]), ("p99", seconds["p99"]), ("max", seconds["max"]))
    latency = ", ".join(f"{name} {_seconds(value)}" for name, value in quantiles)
    alerts = ", ".join(f"{rule} {count}" for rule, count in summary["alerts"].items())
    lines = [
        f"Requests: {summary['requests']:,}, answered: {_share(summary['success_share'])}",
        f"Latency: {latency}",
        f"Answered within {summary['latency_target_seconds']:g} s: {_share(summary['share_under_target'])}",
        *(_metric_line(name, values) for name, values in summary["metrics"].items()),
        *(_metric_line(f"estimated {name}", values) for name, values in summary["estimated_metrics"].items()),
        f"Alerts: {alerts or 'none'}",
        f"Drifted features: {', '.join(summary['drifted_features']) or 'none'}",
        *(f"Missing: {each}" for each in summary["missing"]),
        "",
        f"Page: {address}/dashboard",
    ]
    title = f"[DIGEST] {summary['model_name']} {summary['model_version']}: {start} to {end} UTC"
    return {"title": title, "text": "\n".join(lines), "kind": "info", "key": key}


def _metric_line(name: str, values: MetricSummary) -> str:
    return f"{name}: " + ", ".join(f"{part} {value:.4g}" for part, value in values.items())


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} s"
