"""Answers whose truth is known, in the order in which it came."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, and_, func, select

from app.store.encoding import many_from_text
from app.store.tables import OUTCOMES, PREDICTIONS
from app.types import Label, Micros


class Judged(NamedTuple):
    """One answer whose truth is known, and when the truth was recorded."""

    recorded_at: Micros
    outcome: Label
    prediction: Label


def read_judged(connection: Connection, name: str, version: str, *, most: int) -> list[Judged]:
    """The latest answers whose truth is known, in the order in which the truth first came."""
    first, later, table = OUTCOMES.alias(), OUTCOMES.alias(), PREDICTIONS.c
    newest = select(func.max(later.c.revision)).where(later.c.prediction_id == first.c.prediction_id).scalar_subquery()
    statement = (
        select(first.c.recorded_at, OUTCOMES.c.outcome, table.prediction)
        .select_from(first)
        .join(OUTCOMES, and_(OUTCOMES.c.prediction_id == first.c.prediction_id, OUTCOMES.c.revision == newest))
        .join(PREDICTIONS, table.prediction_id == first.c.prediction_id)
        .where(first.c.revision == 1, table.model_name == name, table.model_version == version, table.role == "active")
        .order_by(first.c.recorded_at.desc(), table.predicted_at.desc(), table.prediction_id.desc())
        .limit(most)
    )
    times, outcomes, predictions = list(zip(*connection.execute(statement).all()[::-1], strict=True)) or ((), (), ())
    return [Judged(*each) for each in zip(times, many_from_text(outcomes), many_from_text(predictions), strict=True)]
