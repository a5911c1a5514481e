"""Answers whose truth is known, in the order in which it came."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, and_, select

from app.store.encoding import many_from_text
from app.store.sampling import VersionRows
from app.store.tables import OUTCOMES
from app.types import Label, Micros, Role


class Judged(NamedTuple):
    """One answer whose truth is known, and when the truth was recorded."""

    recorded_at: Micros
    outcome: Label
    prediction: Label


def read_judged(connection: Connection, name: str, version: str, *, most: int, role: Role = "active") -> list[Judged]:
    """A version's answers among the ``most`` outcomes that came last, in the order in which each first came."""
    within, came = VersionRows(name, version, None, role), OUTCOMES.c.recorded_at
    # The latest outcomes through their index, and an outer join: a planner would else begin with every prediction.
    newest = select(OUTCOMES).where(OUTCOMES.c.revision == 1).order_by(came.desc()).limit(most).subquery()
    truth, table = newest.c, within.table.c
    statement = (
        select(truth.recorded_at, truth.prediction_id, truth.outcome, table.prediction)
        .outerjoin(within.table, and_(*within.own, table.prediction_id == truth.prediction_id))
        .order_by(truth.recorded_at.desc(), table.predicted_at.desc(), table.prediction_id.desc())
    )
    found = [row for row in connection.execute(statement) if row.prediction is not None][::-1]
    if not found:
        return []
    times, ids, outcomes, predictions = zip(*found, strict=True)
    revised = _revised(connection, times[0])
    latest = many_from_text(revised.get(each, outcome) for each, outcome in zip(ids, outcomes, strict=True))
    return [Judged(*each) for each in zip(times, latest, many_from_text(predictions), strict=True)]


def _revised(connection: Connection, since: Micros) -> dict[str, str]:
    """The latest revision of every outcome that was revised since a moment; no revision comes before the first."""
    truth = OUTCOMES.c
    statement = select(truth.prediction_id, truth.outcome).where(truth.revision > 1, truth.recorded_at >= since)
    found = connection.execute(statement.order_by(truth.revision))
    return {row.prediction_id: row.outcome for row in found}
