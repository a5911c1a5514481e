"""Acceptances: states of a version that somebody called normal, and what is left of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from app.store.tables import ACCEPTANCES, REPORTS, from_text, to_text
from app.types import Json, Micros, Report


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One row: the state behind an alert, accepted as the new normal.

    Attributes:
        alert_id: the alert that it ended.
        kind: the kind of report that shows the state.
        report_id: the report whose state was accepted.
        body: ``reference``, the reference that the state is compared with; and ``parts``, what was measured of it.
        ended_at: since when it holds no longer; None while it does.
    """

    acceptance_id: str
    alert_id: str
    model_name: str
    model_version: str
    rule: str
    kind: str
    report_id: str
    accepted_at: Micros
    accepted_by: str | None
    reason: str
    body: Json
    ended_at: Micros | None = None


def add_acceptance(connection: Connection, made: Acceptance) -> None:
    """Store an acceptance."""
    connection.execute(insert(ACCEPTANCES).values(asdict(made) | {"body": to_text(made.body)}))


def in_force(connection: Connection, kind: str, name: str, version: str) -> Sequence[Acceptance]:
    """Read the acceptances that hold for a kind of report on a version, the latest first."""
    table = ACCEPTANCES.c
    mine = (table.model_name == name, table.model_version == version, table.kind == kind, table.ended_at.is_(None))
    order = (table.accepted_at.desc(), table.acceptance_id.desc())
    found = connection.execute(select(ACCEPTANCES).where(*mine).order_by(*order)).mappings()
    return list(map(_acceptance, found))


def change_acceptance(connection: Connection, acceptance_id: str, body: Json, *, ended_at: Micros | None) -> None:
    """Store what is left of an accepted state, or that it has ended."""
    changed = update(ACCEPTANCES).where(ACCEPTANCES.c.acceptance_id == acceptance_id)
    connection.execute(changed.values(body=to_text(body), ended_at=ended_at))


def of_alerts(connection: Connection, alert_ids: Collection[str]) -> Mapping[str, Acceptance]:
    """Read the acceptances that ended these alerts, by alert."""
    found = select(ACCEPTANCES).where(ACCEPTANCES.c.alert_id.in_(alert_ids))
    return {row["alert_id"]: _acceptance(row) for row in connection.execute(found).mappings()}


def note_accepted(connection: Connection, report: Report) -> None:
    """Store a report's body with what of it was accepted; nothing else of it ever changes."""
    changed = update(REPORTS).where(REPORTS.c.report_id == report.report_id)
    connection.execute(changed.values(body=to_text(report.body)))


def _acceptance(row: RowMapping) -> Acceptance:
    columns: dict[str, Any] = dict(row)
    return Acceptance(**(columns | {"body": from_text(columns["body"])}))
