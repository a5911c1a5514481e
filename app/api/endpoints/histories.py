"""The histories of reports: statistics and metrics over time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, NotRequired

import orjson
from fastapi import APIRouter, Depends, Query, Response
from typing_extensions import TypedDict

from app.alerting.service.summary import DAY, RequestsStep, read_requests
from app.api.dependencies import Cursor, From, Limit, SchemaDep, ServicesDep, To, micros, page, require
from app.api.documentation import answers
from app.api.examples import CHECKED_AT, REPORT_ID, REQUESTS_STEP
from app.api.http import bytes_response, json_response
from app.errors import NotFound
from app.reports.performance import Metric
from app.store.database import Connection
from app.store.queries import reports
from app.store.queries.replicas import database_now
from app.types import Json, Micros, Report, to_rfc3339

router = APIRouter(tags=["monitoring"])
READ = [Depends(require("read"))]


class FeatureStep(TypedDict):
    """One feature in one report of a history."""

    status: str
    severity: str | None
    psi: float | None
    psi_noise_floor: float | None


class HistoryItem(TypedDict):
    """One report of a history, with its figures by name."""

    report_id: str
    checked_at: str
    status: str
    values: Mapping[str, float | None]
    features: NotRequired[Mapping[str, FeatureStep]]
    """Of a drift report, each column; with ``detail`` only."""
    findings: NotRequired[int]
    """Of a drift report, the findings of data quality; with ``detail`` only."""
    realised: NotRequired[Mapping[str, Metric]]
    """Of a performance report, the metrics with their intervals and limits; with ``detail`` only."""
    estimated: NotRequired[Mapping[str, Metric]]
    """The same without outcomes; with ``detail`` only."""
    rows: NotRequired[int | None]
    """Rows of the window; with ``detail`` only."""


class RequestsHistory(TypedDict):
    """Requests for predictions over time, over all replicas."""

    items: list[RequestsStep]


class HistoryPage(TypedDict):
    """Reports by time."""

    items: list[HistoryItem]
    next: str | None


def _history_of(values: Mapping[str, float | None]) -> HistoryPage:
    item: HistoryItem = {"report_id": REPORT_ID, "checked_at": CHECKED_AT, "status": "stable", "values": values}
    return {"items": [item], "next": None}


HISTORY_PART = 20
"""Reports that are read at once: each is up to some hundred kilobytes, of which a history keeps a few figures."""
History = Callable[[str, Callable[[Report], HistoryItem]], Awaitable[Json]]
"""Gives a page of the reports of one kind, each shown by a function."""


async def history(
    services: ServicesDep,
    schema: SchemaDep,
    start: From = None,
    end: To = None,
    limit: Limit = 100,
    cursor: Cursor = "",
    points: Annotated[
        int | None, Query(ge=1, le=500, description="At most so many reports, evenly over the time; no pages then.")
    ] = None,
) -> History:
    """A dependency: how to read the part of a version's reports that the query asks for."""
    since, until = micros(start), micros(end)

    async def read_spread(kind: str, most: int, item: Callable[[Report], HistoryItem]) -> Json:
        version = (schema.name, schema.version)
        span = partial(reports.spread, start=since, end=until, points=most)
        moments = await services.readers.run(lambda connection: span(connection, kind, *version))
        items: list[HistoryItem] = []
        for place in range(0, len(moments), HISTORY_PART):
            part = moments[place : place + HISTORY_PART]

            def some(connection: Connection, part: list[Micros] = part) -> list[HistoryItem]:
                return list(map(item, reports.at(connection, kind, *version, part)))

            items += await services.turns.run(partial(services.readers.run, some))
        return page(items, len(items), lambda each: each, lambda each: str(each["report_id"]))

    async def read(kind: str, item: Callable[[Report], HistoryItem]) -> Json:
        if points is not None:
            return await read_spread(kind, points, item)

        def some(connection: Connection) -> list[HistoryItem]:
            found = reports.history(
                connection, kind, schema.name, schema.version, start=since, end=until, after=after, limit=most
            )
            return list(map(item, found))

        after, items = cursor, list[HistoryItem]()
        while (most := min(HISTORY_PART, limit + 1 - len(items))) > 0:
            part = await services.turns.run(partial(services.readers.run, some))
            items += part
            if len(part) < most:
                break
            after = part[-1]["report_id"]
        return page(items, limit, lambda each: each, lambda each: str(each["report_id"]))

    return read


HistoryDep = Annotated[History, Depends(history)]
Detail = Annotated[
    bool, Query(description="Also every feature of a drift report, every interval of a performance one.")
]


@router.get("/drift/history", dependencies=READ)
@answers(HistoryPage, _history_of({"psi": 0.03}), scope="read", errors=(404, 422, 503))
async def drift_history(
    *,
    read: HistoryDep,
    schema: SchemaDep,
    feature: Annotated[
        str | None, Query(max_length=1024, description="One feature's statistics; else the shares.")
    ] = None,
    detail: Detail = False,
) -> Response:
    """Drift statistics over time: of one feature, or the share of drifted features."""
    if feature is not None and feature not in schema.feature_names:
        raise NotFound("the model has no such feature")
    show = _drift_detail if detail and feature is None else partial(_drift_item, feature=feature)
    return json_response(await read("drift", show))


@router.get("/performance/history", dependencies=READ)
@answers(HistoryPage, _history_of({"accuracy": 0.91, "coverage": 0.83}), scope="read", errors=(404, 422, 503))
async def performance_history(read: HistoryDep, *, detail: Detail = False) -> Response:
    """Realised metrics and label coverage over time."""
    return json_response(await read("performance", _performance_detail if detail else _performance_item))


@router.get("/summary/history", dependencies=READ)
@answers(RequestsHistory, {"items": [REQUESTS_STEP]}, scope="read", errors=(404, 422, 503))
async def requests_history(
    services: ServicesDep,
    schema: SchemaDep,
    start: From = None,
    end: To = None,
    points: Annotated[int, Query(ge=1, le=500, description="At most so many parts, each some five minutes.")] = 96,
) -> Response:
    """Requests and their latency over time, by default of the last day."""
    since, until = micros(start), micros(end)

    def read(connection: Connection) -> bytes:
        now = database_now(connection)
        last = now if until is None else min(until, now)
        first = Micros(max(0, last - DAY)) if since is None else since
        new = unsaved if last == now else {}
        steps = read_requests(connection, schema, start=first, end=last, points=points, unsaved=new)
        return orjson.dumps({"items": steps})

    async with services.counts.turn:
        unsaved = services.counts.unsaved((schema.name, schema.version))
        return bytes_response(await services.readers.run(read))


def _item(report: Report, status: str, values: Mapping[str, float | None]) -> HistoryItem:
    return {
        "report_id": report.report_id,
        "checked_at": to_rfc3339(report.checked_at),
        "status": status,
        "values": values,
    }


def _drift_item(report: Report, feature: str | None = None) -> HistoryItem:
    body = report.drift
    if feature is None:
        drifted = len(body.get("drifted_features", [])) if body else 0
        share = body.get("drift_share") if body else None
        return _item(report, report.status, {"drift_share": share, "drifted_features": drifted})
    entry = body.get("features", {}).get(feature) if body else None
    if entry is None:
        return _item(report, report.status, {})
    numbers = {
        name: value for name, value in entry.items() if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return _item(report, entry["status"], numbers)


def _performance_item(report: Report) -> HistoryItem:
    if report.performance is None:
        return _item(report, report.status, {"coverage": None})
    realised = report.performance.get("realised", {})
    values = {name: metric["value"] for name, metric in realised.get("metrics", {}).items()}
    return _item(report, report.status, values | {"coverage": realised.get("coverage")})


def _drift_detail(report: Report) -> HistoryItem:
    """The shares, and each column's status and PSI."""
    item, body = _drift_item(report, None), report.drift
    if body is None:
        return item
    columns: dict[str, Mapping[str, Any]] = dict(body.get("features", {}))
    item["features"] = {name: _step(entry) for name, entry in columns.items()}
    item["findings"] = len(body.get("data_quality", {}).get("findings", []))
    item["rows"] = body.get("window", {}).get("rows")
    return item


def _step(entry: Mapping[str, Any]) -> FeatureStep:
    return {
        "status": entry["status"],
        "severity": entry.get("severity"),
        "psi": entry.get("psi"),
        "psi_noise_floor": entry.get("psi_noise_floor"),
    }


def _performance_detail(report: Report) -> HistoryItem:
    """The metrics with their intervals and limits, by outcomes and by estimate."""
    item, body = _performance_item(report), report.performance
    if body is None:
        return item
    item["realised"] = body.get("realised", {}).get("metrics", {})
    item["estimated"] = body.get("estimated", {}).get("metrics", {})
    item["rows"] = body.get("window", {}).get("rows")
    return item
