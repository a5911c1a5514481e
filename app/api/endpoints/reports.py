"""``/drift``, ``/performance``, their histories, ``/reports/{id}`` as JSON and as HTML; ``POST /checks`` makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import HTMLResponse, JSONResponse

from app.api.dependencies import Cursor, From, Limit, SchemaDep, Services, ServicesDep, To, micros, page, require
from app.dashboard.report_page import CONTENT_SECURITY_POLICY, render_report
from app.errors import NotFound
from app.store.queries import reports
from app.types import Json, Micros, ModelSchema, Report, to_rfc3339

router = APIRouter(tags=["monitoring"])
READ = [Depends(require("read"))]
History = Callable[[str, Callable[[Report], Json]], Awaitable[Json]]
"""Gives a page of the reports of one kind, each shown by a function."""


@router.get("/drift", dependencies=READ)
async def drift(services: ServicesDep, schema: SchemaDep) -> dict[str, Any]:
    """The latest drift report."""
    return await _latest(services, schema, "drift")


@router.get("/performance", dependencies=READ)
async def performance(services: ServicesDep, schema: SchemaDep) -> dict[str, Any]:
    """The latest performance report: realised and estimated, with intervals, baseline and coverage."""
    return await _latest(services, schema, "performance")


async def history(
    services: ServicesDep,
    schema: SchemaDep,
    start: From = None,
    end: To = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> History:
    """A dependency: how to read the part of a version's reports that the query asks for."""

    async def read(kind: str, item: Callable[[Report], Json]) -> Json:
        version, bounds = (schema.name, schema.version), (micros(start), micros(end))
        found = await services.readers.run(
            reports.history, kind, *version, start=bounds[0], end=bounds[1], after=cursor, limit=limit + 1
        )
        return page(found, limit, item, lambda report: report.report_id)

    return read


HistoryDep = Annotated[History, Depends(history)]


@router.get("/drift/history", dependencies=READ)
async def drift_history(
    read: HistoryDep,
    schema: SchemaDep,
    feature: Annotated[
        str | None, Query(max_length=1024, description="One feature's statistics; else the shares.")
    ] = None,
) -> dict[str, Any]:
    """Drift statistics over time: of one feature, or the share of drifted features."""
    if feature is not None and feature not in schema.feature_names:
        raise NotFound("the model has no such feature")
    return await read("drift", lambda report: _drift_item(report, feature))


@router.get("/performance/history", dependencies=READ)
async def performance_history(read: HistoryDep) -> dict[str, Any]:
    """Realised metrics and label coverage over time."""
    return await read("performance", _performance_item)


@router.get("/reports/{report_id}.html", dependencies=READ, response_class=HTMLResponse)
async def report_page(report_id: str, services: ServicesDep) -> HTMLResponse:
    """Any stored report as one HTML file that needs nothing else."""
    found = render(await _find(services, report_id))
    page = await asyncio.to_thread(render_report, found)
    return HTMLResponse(page, headers={"content-security-policy": CONTENT_SECURITY_POLICY})


@router.get("/reports/{report_id}", dependencies=READ)
async def report(report_id: str, services: ServicesDep) -> dict[str, Any]:
    """Any stored report."""
    return render(await _find(services, report_id))


@router.post(
    "/checks",
    dependencies=[Depends(require("admin"))],
    response_model=dict[str, Any],
    responses={504: {"description": "Some checks still run; their reports will have the ids in `pending`"}},
)
async def checks(services: ServicesDep, schema: SchemaDep) -> dict[str, Any] | JSONResponse:
    """Run every check now."""
    ended: list[Json] = []
    pending: list[Json] = []
    for check in await services.monitoring.check_now(schema.version, services.config.server.deadline):
        if check.task.done():
            check.task.result()  # raises what kept the report from being saved
        (ended if check.task.done() else pending).append({"report_id": check.report_id, "kind": check.kind})
    if not pending:
        return {"reports": ended}
    detail = "some checks still run: GET /reports/{report_id} will have the reports that are pending"
    return JSONResponse({"detail": detail, "reports": ended, "pending": pending}, HTTPStatus.GATEWAY_TIMEOUT)


async def _find(services: Services, report_id: str) -> Report:
    found = await services.readers.run(reports.get, report_id) if "\0" not in report_id else None
    if found is None:
        raise NotFound("no report has this id")
    return found


async def _latest(services: Services, schema: ModelSchema, kind: str) -> Json:
    found = await services.readers.run(reports.latest, kind, schema.name, schema.version)
    if found is None:
        missing = "no check has run yet: it starts when enough rows are stored, or with POST /checks"
        found = Report(
            "",
            kind,
            schema.name,
            schema.version,
            Micros(0),
            "insufficient_data",
            {"message": missing, "errors": []},
        )
        return render(found) | {"report_id": None, "checked_at": None}
    return render(found)


def render(report: Report) -> Json:
    """A report as the API shows it."""
    head = {
        "report_id": report.report_id,
        "kind": report.kind,
        "model_name": report.model_name,
        "model_version": report.model_version,
    }
    return head | {"checked_at": to_rfc3339(report.checked_at), "status": report.status} | report.body


def _item(report: Report, status: str, values: Json) -> Json:
    return {
        "report_id": report.report_id,
        "checked_at": to_rfc3339(report.checked_at),
        "status": status,
        "values": values,
    }


def _drift_item(report: Report, feature: str | None) -> Json:
    body = report.body
    if feature is None:
        drifted = len(body.get("drifted_features") or [])
        return _item(report, report.status, {"drift_share": body.get("drift_share"), "drifted_features": drifted})
    entry = body.get("features", {}).get(feature, {})
    numbers = {
        name: value for name, value in entry.items() if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return _item(report, entry.get("status", report.status), numbers)


def _performance_item(report: Report) -> Json:
    realised = report.body.get("realised", {})
    values = {name: metric["value"] for name, metric in realised.get("metrics", {}).items()}
    return _item(report, report.status, values | {"coverage": realised.get("coverage")})
