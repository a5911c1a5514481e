"""Reports: the latest, their histories, and one by its id.

``POST /checks`` makes new ones. ``/reports/{id}`` is JSON or HTML.
"""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Annotated, Literal, TypeAlias, cast

import orjson
from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import HTMLResponse
from typing_extensions import TypedDict

from app.alerting.service.summary import Summary, read_summary
from app.api.dependencies import (
    BoundModel,
    Cursor,
    From,
    Limit,
    SchemaDep,
    Services,
    ServicesDep,
    To,
    micros,
    page,
    require,
)
from app.api.documentation import answers
from app.api.examples import CHECKED_AT, DRIFT, PERFORMANCE, REPORT_ID, SUMMARY
from app.api.http import bytes_response, json_response
from app.dashboard.report_page import CONTENT_SECURITY_POLICY, render_report
from app.errors import FieldError, Invalid, NotFound
from app.monitoring.monitor import NEW_SHARE
from app.reports.service import NoReport, ShownDrift, ShownPerformance, ShownReport
from app.store.database import Connection
from app.store.queries import reports
from app.store.queries.replicas import database_now
from app.store.queries.reports import ReportFilter
from app.types import SECOND, Micros, ModelSchema, Report, to_rfc3339

router = APIRouter(tags=["monitoring"])
PAGE_POLICY = f"{CONTENT_SECURITY_POLICY}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
READ = [Depends(require("read"))]
Kind: TypeAlias = Literal["drift", "performance", "service"]
Status: TypeAlias = Literal[
    "stable", "drift", "no_reference", "ok", "degraded", "improved", "insufficient_data", "warning", "error"
]


class ListedReport(TypedDict):
    """A report of the list; ``GET /reports/{report_id}`` has it whole."""

    report_id: str
    kind: str
    model_name: str
    model_version: str
    checked_at: str
    status: str


class ReportPage(TypedDict):
    """Reports, the latest first."""

    items: list[ListedReport]
    next: str | None


class CheckedReport(TypedDict):
    """A report that a check has saved."""

    report_id: str
    kind: str


class RunningChecks(TypedDict):
    """Checks that did not end in time, and those that did."""

    detail: str
    reports: list[CheckedReport]
    pending: list[CheckedReport]
    """Their reports will have these ids."""


class CheckedReports(TypedDict):
    """The reports of the checks that were run."""

    reports: list[CheckedReport]


RUNNING: RunningChecks = {
    "detail": "some checks still run: GET /reports/{report_id} will have the reports that are pending",
    "reports": [],
    "pending": [{"report_id": REPORT_ID, "kind": "drift"}],
}
LISTED: ListedReport = {
    "report_id": REPORT_ID,
    "kind": "drift",
    "model_name": "credit",
    "model_version": "1",
    "checked_at": CHECKED_AT,
    "status": "drift",
}
CHECKED: CheckedReports = {"reports": [{"report_id": REPORT_ID, "kind": "drift"}]}


@router.get("/drift", dependencies=READ)
@answers(ShownDrift | NoReport, DRIFT, name="DriftAnswer", scope="read", errors=(404, 503))
async def drift(services: ServicesDep, schema: SchemaDep) -> Response:
    """The latest drift report."""
    return await _latest(services, schema, "drift")


@router.get("/performance", dependencies=READ)
@answers(ShownPerformance | NoReport, PERFORMANCE, name="PerformanceAnswer", scope="read", errors=(404, 503))
async def performance(services: ServicesDep, schema: SchemaDep) -> Response:
    """The latest performance report.

    It has realised and estimated metrics, with intervals, baseline and coverage.
    """
    return await _latest(services, schema, "performance")


async def wanted_reports(
    services: ServicesDep,
    bound: BoundModel,
    kind: Annotated[Kind | None, Query(description="Reports of this kind alone.")] = None,
    status: Annotated[Status | None, Query(description="Reports that ended like this.")] = None,
    model_version: Annotated[str | None, Query(max_length=64, description="Reports on this version alone.")] = None,
    start: From = None,
    end: To = None,
) -> ReportFilter:
    """The reports that the query asks for, of every version by default."""
    name = bound or services.registry.active.schema.name
    return ReportFilter(name, model_version, kind, status, micros(start), micros(end))


@router.get("/reports", dependencies=READ)
@answers(ReportPage, {"items": [LISTED], "next": None}, scope="read", errors=(503,))
async def list_reports(
    services: ServicesDep,
    wanted: Annotated[ReportFilter, Depends(wanted_reports)],
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Stored reports, the latest first."""
    found = await services.readers.run(partial(reports.find, wanted=wanted, after=cursor, limit=limit + 1))
    return json_response(page(found, limit, _listed, lambda report: report.report_id))


@router.get("/summary", dependencies=READ)
@answers(Summary, SUMMARY, scope="read", errors=(404, 503))
async def summary(
    services: ServicesDep,
    schema: SchemaDep,
    minutes: Annotated[int | None, Query(ge=1, le=366 * 1440, description="The last minutes; by default 60.")] = None,
    days: Annotated[int | None, Query(ge=1, le=366, description="The last days, instead of minutes.")] = None,
) -> Response:
    """Requests, latency, metrics, alerts and drifted features of the last minutes or days.

    The time begins at a mark of five minutes. A figure that is not there is null or empty, and ``missing`` says why.
    """
    if minutes is not None and days is not None:
        raise Invalid([FieldError("days", "minutes or days", "both are given")], "query")
    length = days * 1440 if days is not None else 60 if minutes is None else minutes

    def read(connection: Connection) -> bytes:
        now = database_now(connection)
        start = Micros(max(0, now - length * 60 * SECOND))
        return orjson.dumps(read_summary(connection, schema, start=start, end=now, unsaved=unsaved))

    async with services.counts.turn:
        unsaved = services.counts.unsaved((schema.name, schema.version))
        return bytes_response(await services.readers.run(read))


def _listed(report: reports.ReportRow | Report) -> ListedReport:
    return {
        "report_id": report.report_id,
        "kind": report.kind,
        "model_name": report.model_name,
        "model_version": report.model_version,
        "checked_at": to_rfc3339(report.checked_at),
        "status": report.status,
    }


@router.get("/reports/{report_id}.html", dependencies=READ, response_class=HTMLResponse)
@answers(None, None, scope="read", errors=(404, 503), media={"text/html": {"type": "string"}})
async def report_page(report_id: str, services: ServicesDep, bound: BoundModel) -> HTMLResponse:
    """Any stored report as one HTML file that needs nothing else."""
    found = await _find(services, report_id, bound)
    page = await services.turns.run(partial(asyncio.to_thread, lambda: render_report(render(found))))
    return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY})


@router.get("/reports/{report_id}", dependencies=READ)
@answers(ShownReport, DRIFT, name="ReportAnswer", scope="read", errors=(404, 503))
async def report(report_id: str, services: ServicesDep, bound: BoundModel) -> Response:
    """Any stored report."""
    found = await _find(services, report_id, bound)
    return bytes_response(await asyncio.to_thread(lambda: orjson.dumps(render(found))))


@router.post("/checks", dependencies=[Depends(require("admin"))])
@answers(
    CheckedReports,
    CHECKED,
    scope="admin",
    errors=(404, 503),
    also={504: ("Some checks still run; their reports will have the ids in `pending`", RunningChecks, RUNNING)},
)
async def checks(services: ServicesDep, schema: SchemaDep) -> Response:
    """Run every check now."""
    ended: list[CheckedReport] = []
    pending: list[CheckedReport] = []
    for check in await services.monitoring.check_now(schema.version, services.config.server.deadline):
        if check.task.done():
            check.task.result()  # raises what kept the report from being saved
        (ended if check.task.done() else pending).append({"report_id": check.report_id, "kind": check.kind})
    if not pending:
        whole: CheckedReports = {"reports": ended}
        return json_response(whole)
    detail = "some checks still run: GET /reports/{report_id} will have the reports that are pending"
    body: RunningChecks = {"detail": detail, "reports": ended, "pending": pending}
    return json_response(body, HTTPStatus.GATEWAY_TIMEOUT)


async def _find(services: Services, report_id: str, bound: str | None) -> Report:
    found = await services.readers.run(reports.get, report_id) if "\0" not in report_id else None
    if found is None or bound not in (None, found.model_name):
        raise NotFound("no report has this id")
    return found


async def _latest(services: Services, schema: ModelSchema, kind: str) -> Response:
    def read(connection: Connection) -> bytes | None:
        found = reports.latest(connection, kind, schema.name, schema.version)
        return None if found is None else orjson.dumps(render(found))

    body = await services.readers.run(read)
    if body is not None:
        return bytes_response(body)
    settings = services.config.drift if kind == "drift" else services.config.performance
    rows = max(1, round(settings.window.rows * NEW_SHARE))
    missing: NoReport = {
        "report_id": None,
        "kind": kind,
        "model_name": schema.name,
        "model_version": schema.version,
        "checked_at": None,
        "status": "insufficient_data",
        "message": f"no check has run yet: it starts when {rows} rows are stored, or with POST /checks",
        "errors": [],
    }
    return json_response(missing)


def render(report: Report) -> ShownReport:
    """A report as the API shows it."""
    return cast("ShownReport", {**_listed(report), **report.body})
