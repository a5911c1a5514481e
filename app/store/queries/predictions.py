"""Predictions: written in groups, found by id, streamed by time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, and_, or_, select
from sqlalchemy import Row as SqlRow

from app.store.sql import from_text, insert_rows, to_text, to_text_or_none
from app.store.tables import MODELS, OUTCOMES, PREDICTIONS, sampling_level
from app.types import Answer, Label, Micros, Prediction

MAX_IDS = 500
"""Ids in one IN list; SQLite and PostgreSQL both bound the parameters of a statement."""


class Taken(Exception):
    """Say that another replica has stored an id already.

    The caller reads the stored row and answers with it.
    """


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored prediction with the schema it was made under."""

    prediction: Prediction
    schema: dict[str, Any]

    @property
    def classes(self) -> list[Label]:
        """The classes in the order of the probabilities."""
        classes: list[Label] = self.schema.get("classes", [])
        return classes


def insert(connection: Connection, rows: Sequence[Prediction]) -> list[None]:
    """Store the rows.

    Raises:
        Taken: one of the ids belongs to another row.
    """
    if foreign := put(connection, rows):
        raise Taken(", ".join(sorted(foreign)))
    return [None] * len(rows)


def put(connection: Connection, rows: Sequence[Prediction]) -> set[str]:
    """Store the rows whose ids are free; the ids that belong to other rows.

    A row that an earlier try of the same call has stored counts as stored: after a lost connection nobody knows whether
    the commit went through, and trying again must be safe.
    """
    if insert_rows(connection, PREDICTIONS, in_order(rows), replay=True) == len(rows):
        return set()
    columns = (PREDICTIONS.c.prediction_id, PREDICTIONS.c.predicted_at, PREDICTIONS.c.request_id)
    ours = {(row.prediction_id, row.predicted_at, row.request_id) for row in rows}
    there = {
        tuple(row)
        for ids in chunks([row.prediction_id for row in rows])
        for row in connection.execute(select(*columns).where(columns[0].in_(ids)))
    }
    return {id_ for id_, _, _ in there - ours}


def in_order(rows: Sequence[Prediction]) -> list[tuple[Any, ...]]:
    """The rows as the table has them, by id.

    Two replicas that store the same ids lock them in the same order: they wait for each other, and never for ever.
    """
    return sorted(map(_values, rows), key=itemgetter(0))


def find(connection: Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """The stored predictions among these ids."""
    found: dict[str, Stored] = {}
    for part in chunks(ids):
        rows = connection.execute(_with_schema().where(PREDICTIONS.c.prediction_id.in_(part))).all()
        found |= {row.prediction_id: _stored(row) for row in rows}  # after the statement: while it lasts, the log grows
    return found


def stream(
    connection: Connection,
    *,
    start: Micros | None = None,
    end: Micros | None = None,
    version: str | None = None,
    labelled: bool | None = None,
    after: tuple[Micros, str] | None = None,
    limit: int | None = None,
) -> Iterator[Stored]:
    """Read predictions in order of (predicted_at, id), in constant memory.

    The bounds are ``start``, included, and ``end``, excluded.

    Args:
        labelled: only those with (True) or without (False) an outcome.
        after: continue behind this row.
    """
    table = PREDICTIONS.c
    key = and_(OUTCOMES.c.prediction_id == table.prediction_id, OUTCOMES.c.revision == 1)
    conditions = [
        None if start is None else table.predicted_at >= start,
        None if end is None else table.predicted_at < end,
        None if version is None else table.model_version == version,
        None if labelled is None else (select(OUTCOMES.c.revision).where(key).exists() == labelled),
        None
        if after is None
        else or_(table.predicted_at > after[0], and_(table.predicted_at == after[0], table.prediction_id > after[1])),
    ]
    statement = _with_schema().where(*(condition for condition in conditions if condition is not None))
    statement = (
        statement.order_by(table.predicted_at, table.prediction_id).limit(limit).execution_options(yield_per=1000)
    )
    for row in connection.execute(statement):
        yield _stored(row)


def chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """The ids in parts that fit into one statement."""
    return (ids[start : start + MAX_IDS] for start in range(0, len(ids), MAX_IDS))


def _with_schema() -> Select[Any]:
    same = and_(MODELS.c.name == PREDICTIONS.c.model_name, MODELS.c.version == PREDICTIONS.c.model_version)
    return select(PREDICTIONS, MODELS.c.schema).outerjoin(MODELS, same)


def _values(row: Prediction) -> tuple[Any, ...]:
    """A row in the order of the table's columns."""
    id_, name, version, features, answer, predicted_at, latency_us, request_id, source, role, context = row
    return (
        id_,
        name,
        version,
        to_text(features),
        to_text(answer.prediction),
        to_text_or_none(answer.probabilities),
        to_text_or_none(context),
        predicted_at,
        latency_us,
        source,
        role,
        request_id,
        sampling_level(id_),
    )


def _stored(row: SqlRow[Any]) -> Stored:
    probabilities = from_text(row.probabilities)
    prediction = Prediction(
        prediction_id=row.prediction_id,
        model_name=row.model_name,
        model_version=row.model_version,
        features=from_text(row.features),
        answer=Answer(from_text(row.prediction), None if probabilities is None else tuple(probabilities)),
        predicted_at=row.predicted_at,
        latency_us=row.latency_us,
        request_id=row.request_id,
        source=row.source,
        role=row.role,
        context=from_text(row.context),
    )
    return Stored(prediction, from_text(row.schema) or {})
