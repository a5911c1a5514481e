"""Reports: the saved results of checks, the latest and over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from sqlalchemy import Connection, delete, insert, select

from app.store.queries import figures
from app.store.tables import ALERTS, REPORTS, from_text, to_text
from app.types import Micros, Report, ServedVersions, new_id

KINDS = ("drift", "performance", "service")
MAX_PURGED_REPORTS = 20
"""Reports deleted in one transaction: each is up to some hundred kilobytes."""


class ReportListener(Protocol):
    """Writes the alerts and messages that follow from a report.

    It does so in the transaction that saves the report.
    """

    def on_report(self, connection: Connection, report: Report, served: ServedVersions) -> None:
        """Write it. The writer thread calls this, so ``served`` is a snapshot from the event loop."""


def save(connection: Connection, report: Report) -> None:
    """Store a report and its figures; reports are never changed."""
    values = {
        name: getattr(report, name)
        for name in ("report_id", "kind", "model_name", "model_version", "checked_at", "status")
    }
    connection.execute(insert(REPORTS).values(**values, body=to_text(report.body)))
    found = figures.figures_of(report)
    figures.add(connection, report.model_name, report.model_version, found, at=report.checked_at)


def latest(connection: Connection, kind: str, name: str, version: str) -> Report | None:
    """Read the newest report of a kind on a version.

    A check that failed says nothing about the model, and its report is passed over.
    """
    return next(iter(history(connection, kind, name, version, newest_first=True, failed=False, limit=1)), None)


def latest_of_each(connection: Connection, name: str, version: str) -> dict[str, Report]:
    """The newest report of every kind on a version."""
    found = {kind: latest(connection, kind, name, version) for kind in KINDS}
    return {kind: report for kind, report in found.items() if report}


def purge(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete old reports that no alert refers to, and give their number.

    By their ids, which sort by time: a look that finds nothing costs nothing.
    """
    of_alerts = select(ALERTS.c.report_id)
    old = select(REPORTS.c.report_id).where(
        REPORTS.c.report_id < new_id(before * 1000), REPORTS.c.report_id.not_in(of_alerts)
    )
    ids = list(connection.execute(old.order_by(REPORTS.c.report_id).limit(min(limit, MAX_PURGED_REPORTS))).scalars())
    connection.execute(delete(REPORTS).where(REPORTS.c.report_id.in_(ids)))
    return len(ids)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A report without its body."""

    report_id: str
    kind: str
    model_name: str
    model_version: str
    checked_at: Micros
    status: str


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """The reports that a caller asks for: those that fit everything that is set.

    Attributes:
        start, end: from this moment on, and before that one.
    """

    name: str | None = None
    version: str | None = None
    kind: str | None = None
    status: str | None = None
    start: Micros | None = None
    end: Micros | None = None


def find(connection: Connection, wanted: ReportFilter, *, after: str = "", limit: int) -> Sequence[ReportRow]:
    """The reports that fit, the latest first, behind the id ``after``. Bodies are not read."""
    table = REPORTS.c
    equal = {"model_name": wanted.name, "model_version": wanted.version, "kind": wanted.kind, "status": wanted.status}
    conditions = [table[name] == value for name, value in equal.items() if value is not None]
    if wanted.start is not None:
        conditions.append(table.checked_at >= wanted.start)
    if wanted.end is not None:
        conditions.append(table.checked_at < wanted.end)
    if after:
        conditions.append(table.report_id < after)
    columns = [table[field.name] for field in fields(ReportRow)]
    statement = select(*columns).where(*conditions).order_by(table.report_id.desc()).limit(limit)
    return [ReportRow(*row) for row in connection.execute(statement)]


def get(connection: Connection, report_id: str) -> Report | None:
    """One report by its id."""
    row = connection.execute(select(REPORTS).where(REPORTS.c.report_id == report_id)).first()
    return None if row is None else _report(row)


def history(
    connection: Connection,
    kind: str,
    name: str,
    version: str,
    *,
    start: Micros | None = None,
    end: Micros | None = None,
    after: str = "",
    limit: int,
    newest_first: bool = False,
    failed: bool = True,
) -> Sequence[Report]:
    """Reports of a kind in the order of their ids, which is that of their times.

    From ``start`` on, before ``end``, behind the id ``after``.
    """
    table = REPORTS.c
    statement = select(REPORTS).where(table.kind == kind, table.model_name == name, table.model_version == version)
    if start is not None:
        statement = statement.where(table.checked_at >= start)
    if end is not None:
        statement = statement.where(table.checked_at < end)
    if not failed:
        statement = statement.where(table.status != "error")
    if after:
        statement = statement.where(table.report_id > after)
    order = (table.checked_at.desc(), table.report_id.desc()) if newest_first else (table.report_id,)
    return [_report(row) for row in connection.execute(statement.order_by(*order).limit(limit))]


def _report(row: Any) -> Report:
    body = from_text(row.body)
    return Report(row.report_id, row.kind, row.model_name, row.model_version, row.checked_at, row.status, body)
