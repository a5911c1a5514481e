"""Predictions: written in groups, found by id, streamed by time, sampled evenly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, or_, select
from sqlalchemy import Row as SqlRow

from app.store.tables import (
    MODELS,
    OUTCOMES,
    PREDICTIONS,
    SHADOW_PREDICTIONS,
    from_text,
    insert_rows,
    to_text,
    to_text_or_none,
)
from app.types import SECOND, Answer, Label, Micros, Prediction, Role

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


def insert_new(connection: Connection, rows: Sequence[Prediction]) -> list[Stored | None]:
    """Store the rows whose ids are free; for each of the others the row that has its id.

    A row that an earlier try of the same call has stored counts as stored: after a lost connection nobody knows whether
    the commit went through, and trying again must be safe.

    Raises:
        Taken: an id was taken, and its row has gone since.
    """
    if insert_rows(connection, PREDICTIONS, in_order(rows), replay=True) == len(rows):
        return [None] * len(rows)
    own = _keys(connection, [row.prediction_id for row in rows])
    foreign = [row.prediction_id for row in rows if _key(row) not in own]
    there = find(connection, foreign)
    if missing := [id_ for id_ in foreign if id_ not in there]:
        raise Taken(", ".join(missing))
    return [None if _key(row) in own else there[row.prediction_id] for row in rows]


def put(connection: Connection, rows: Sequence[Prediction]) -> set[str]:
    """Store the rows whose ids are free; the ids that belong to other rows.

    See :func:`insert_new`.
    """
    return {stored.prediction.prediction_id for stored in insert_new(connection, rows) if stored is not None}


def _key(row: Prediction) -> tuple[str, Micros, str]:
    """The key that tells the row of one call from that of another with the same id."""
    return row.prediction_id, row.predicted_at, row.request_id


def _keys(connection: Connection, ids: Sequence[str]) -> set[tuple[str, Micros, str]]:
    """The keys of the stored rows with these ids."""
    table = PREDICTIONS.c
    keys = select(table.prediction_id, table.predicted_at, table.request_id)
    parts = (connection.execute(keys.where(table.prediction_id.in_(part))).all() for part in chunks(ids))
    return {(id_, Micros(moment), request_id) for part in parts for id_, moment, request_id in part}


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
    name: str | None = None,
    version: str | None = None,
    labelled: bool | None = None,
    ids: Sequence[str] | None = None,
    after: tuple[Micros, str] | None = None,
    limit: int | None = None,
) -> Iterator[Stored]:
    """Read predictions in order of (predicted_at, id), in constant memory.

    The bounds are ``start``, included, and ``end``, excluded.

    Args:
        labelled: only those with (True) or without (False) an outcome.
        ids: only these; they must fit into one statement.
        after: continue behind this row.
    """
    table = PREDICTIONS.c
    key = and_(OUTCOMES.c.prediction_id == table.prediction_id, OUTCOMES.c.revision == 1)
    conditions = [
        None if start is None else table.predicted_at >= start,
        None if end is None else table.predicted_at < end,
        None if name is None else table.model_name == name,
        None if version is None else table.model_version == version,
        None if ids is None else table.prediction_id.in_(ids),
        None if labelled is None else (select(OUTCOMES.c.revision).where(key).exists() == labelled),
        None if after is None else table.predicted_at >= after[0],  # by itself, so that the index leads there
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
    answer = row.answer
    return (
        row.prediction_id,
        row.model_name,
        row.model_version,
        to_text(row.features),
        to_text(answer.prediction),
        to_text_or_none(answer.probabilities),
        to_text_or_none(row.context),
        row.predicted_at,
        row.latency_us,
        row.source,
        row.role,
        row.request_id,
        sampling_level(row.prediction_id),
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
    return Stored(prediction, _schema(row.schema))


@lru_cache(maxsize=16)
def _schema(text: str | None) -> dict[str, Any]:
    """The schema of a version, which many rows have in common; nobody changes it."""
    schema: dict[str, Any] = from_text(text) or {}
    return schema


def sampling_level(prediction_id: str) -> int:
    """Give the sampling level of an id.

    It is the number of trailing zero bits, 0 to 64, of BLAKE2b-64 of the id in UTF-8.

    Half of all ids have level 0, a quarter have level 1.

    >>> sum(sampling_level(str(number)) >= 3 for number in range(8000)) / 1000  # about one in eight
    1.022
    """
    digest = blake2b(prediction_id.encode(), digest_size=8).digest()
    number = digest[-1] or int.from_bytes(digest, "big")  # the last byte decides, but for one id in 256
    return (number & -number).bit_length() - 1 if number else 64


@dataclass(frozen=True, slots=True)
class VersionRows:
    """The answers of one version, reached level by level through the index."""

    name: str
    version: str
    before: Micros | None
    role: Role = "active"

    @property
    def table(self) -> Table:
        """Give the table of the answers that were given in this role."""
        return SHADOW_PREDICTIONS if self.role == "shadow" else PREDICTIONS

    @property
    def own(self) -> list[ColumnElement[bool]]:
        """The conditions of a row of this version and role, at any time."""
        table = self.table.c
        same = [table.model_name == self.name, table.model_version == self.version]
        return same if self.role == "shadow" else [*same, table.role == self.role]

    def at(self, level: int) -> list[ColumnElement[bool]]:
        """The conditions of a row of this level."""
        table = self.table.c
        earlier = [] if self.before is None else [table.predicted_at < self.before]
        return [*self.own, table.level == level, *earlier]

    def levels(self, connection: Connection, lowest: int = 0) -> range:
        """The levels from the lowest on that rows may have: one step in the index."""
        table = self.table.c
        statement = select(func.max(table.level)).where(
            table.model_name == self.name, table.model_version == self.version
        )
        highest = connection.execute(statement).scalar()
        return range(lowest, 0 if highest is None else highest + 1)

    def sample(self, connection: Connection, rows: int, hours: float) -> tuple[int, int | None]:
        """Give the lowest level of a window's rows, and the moment from which they are taken.

        None means that they are taken whatever time they span.
        """
        end = self.newest(connection) if hours else None
        if end is None:
            return 0, None
        start, levels = end - round(hours * 3600 * SECOND), self.levels(connection)
        counts = [self.count(connection, level, start, rows + 1) for level in levels]
        level = next((level for level in levels if sum(counts[level:]) <= rows), levels[-1])
        return level, start if level else None

    def newest(self, connection: Connection) -> Micros | None:
        """The time of the newest row."""
        found = [
            connection.execute(select(func.max(self.table.c.predicted_at)).where(*self.at(level))).scalar()
            for level in self.levels(connection)
        ]
        return max((moment for moment in found if moment is not None), default=None)

    def count(self, connection: Connection, level: int, start: int, most: int) -> int:
        """The number of rows of a level from a moment on, counted up to ``most``."""
        part = select(self.table.c.predicted_at).where(*self.at(level), self.table.c.predicted_at >= start).limit(most)
        return connection.execute(select(func.count()).select_from(part.subquery())).scalar_one()

    def latest(self, connection: Connection, level: int, rows: int, start: int | None) -> list[tuple[Micros, str]]:
        """(time, id) of the latest rows of ``level`` or more, oldest first."""
        table = self.table.c
        found: list[tuple[Micros, str]] = []
        for each in self.levels(connection, level):
            statement = select(table.predicted_at, table.prediction_id).where(*self.at(each))
            statement = statement if start is None else statement.where(table.predicted_at >= start)
            statement = statement.order_by(table.predicted_at.desc(), table.prediction_id.desc()).limit(rows)
            found += [(Micros(moment), prediction_id) for moment, prediction_id in connection.execute(statement).all()]
        return sorted(found)[-rows:]
