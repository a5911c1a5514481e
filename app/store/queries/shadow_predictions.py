"""Answers of shadow versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from app.store.queries.outcomes import revisions_of
from app.store.queries.predictions import VersionRows, chunks, sampling_level
from app.store.tables import PREDICTIONS, SHADOW_PREDICTIONS, from_text, insert_rows, to_text, to_text_or_none
from app.types import Answer, Label, Micros, Prediction


class ShadowAnswer(NamedTuple):
    """A shadow's answer to the row of a stored prediction."""

    row: Prediction
    answer: Answer
    latency_us: int


def insert(connection: Connection, version: str, answers: Sequence[ShadowAnswer]) -> None:
    """Store a shadow version's answers; each once."""
    rows = [
        (
            row.prediction_id,
            row.model_name,
            version,
            to_text(answer.prediction),
            to_text_or_none(answer.probabilities),
            row.predicted_at,
            latency_us,
            sampling_level(row.prediction_id),
        )
        for row, answer, latency_us in answers
    ]
    insert_rows(connection, SHADOW_PREDICTIONS, rows, replay=True)


def purge(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete old answers, to about ``limit`` rows, and give their number.

    By their own time, since the predictions may be gone already, with a partition.
    """
    table = SHADOW_PREDICTIONS.c
    old = select(table.prediction_id).where(table.predicted_at < before).order_by(table.predicted_at).limit(limit)
    ids = list(connection.execute(old).scalars())
    for part in chunks(ids):
        connection.execute(delete(SHADOW_PREDICTIONS).where(table.prediction_id.in_(part)))
    return len(ids)


class Pair(NamedTuple):
    """Hold two answers to one row, the shadow's and the served one, and the outcome or None."""

    shadow: Label
    champion: Label
    outcome: Label | None


def read_pairs(
    connection: Connection, name: str, version: str, *, rows: int, hours: float, before: Micros | None = None
) -> dict[str, list[Pair]]:
    """A shadow's answers in the window of ``read_window``, by the version that answered."""
    within = VersionRows(name, version, before, "shadow")
    level, start = within.sample(connection, rows, hours)
    ids = [prediction_id for _, prediction_id in within.latest(connection, level, rows, start)]
    shadow, champion = SHADOW_PREDICTIONS.c, PREDICTIONS.c
    found: dict[str, list[Pair]] = {}
    for part in chunks(ids):
        statement = select(champion.model_version, shadow.prediction_id, shadow.prediction, champion.prediction).where(
            shadow.prediction_id.in_(part),
            shadow.model_version == version,
            champion.prediction_id == shadow.prediction_id,
        )
        truth = revisions_of(connection, part, most=1)
        for answered_by, prediction_id, ours, theirs in connection.execute(statement):
            outcome = truth[prediction_id][-1].outcome if prediction_id in truth else None
            found.setdefault(answered_by, []).append(Pair(from_text(ours), from_text(theirs), outcome))
    return found
