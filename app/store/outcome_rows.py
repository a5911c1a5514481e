"""What the store knows about reported ids, and the revisions to append: one statement each, compiled once.

Every reported outcome passes here, and a statement that is built and compiled for each group costs more than it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import TEXT, Connection, TableValuedAlias, and_, bindparam, cast, func, literal_column, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.interfaces import Dialect

from app.store.encoding import from_text
from app.store.inserting import insert_rows
from app.store.tables import MODELS, OUTCOMES, PREDICTIONS
from app.types import Json, Label, Micros


class Known(NamedTuple):
    """An id as the store has it.

    Attributes:
        schema: of the version that answered; None without a prediction.
        revision: the latest of its outcome, 0 without one; ``outcome`` and ``value`` are that revision's.
    """

    schema: Json | None
    revision: int
    outcome: Label | None
    value: float | None


class Revision(NamedTuple):
    """A row of the table ``outcomes``, in the order of its columns; ``outcome`` is JSON text."""

    prediction_id: str
    revision: int
    outcome: str
    value: float | None
    observed_at: Micros | None
    recorded_at: Micros
    recorded_by: str | None


def look_up(connection: Connection, ids: Sequence[str]) -> dict[str, Known]:
    """What is known about each of these ids."""
    asked = orjson.dumps(ids).decode() if connection.dialect.name == "sqlite" else list(ids)
    found = connection.exec_driver_sql(_lookup(connection.dialect), (asked,))
    return {
        id_: Known(None if schema is None else _schema(schema), revision or 0, from_text(outcome), value)
        for id_, schema, revision, outcome, value in found
    }


def append(connection: Connection, rows: Sequence[Revision]) -> None:
    """Add revisions; IntegrityError where another replica has added one of them first.

    Two replicas that add revisions of the same ids lock them in the same order: they wait, and never for ever.
    """
    insert_rows(connection, OUTCOMES, sorted(rows))


@lru_cache(maxsize=8)
def _lookup(dialect: Dialect) -> str:
    """The SELECT as text; all ids are one parameter, so that any number of them is the same statement.

    Scalar subqueries, since PostgreSQL keeps the plan of a statement: one of joins, made while a table was small, read
    all of the table for every group once it had grown (80,000 rows: 5 ms a group instead of 0.5 ms).
    """
    id_ = _asked(dialect).c.value
    same = and_(MODELS.c.name == PREDICTIONS.c.model_name, MODELS.c.version == PREDICTIONS.c.model_version)
    schema = (
        select(func.coalesce(MODELS.c.schema, literal_column("'{}'")))
        .select_from(PREDICTIONS.outerjoin(MODELS, same))
        .where(PREDICTIONS.c.prediction_id == id_)
    )
    latest = (
        select(column)
        .where(OUTCOMES.c.prediction_id == id_)
        .order_by(OUTCOMES.c.revision.desc())
        .limit(literal_column("1"))
        .offset(literal_column("0"))  # SQLite would write a parameter otherwise
        for column in (OUTCOMES.c.revision, OUTCOMES.c.outcome, OUTCOMES.c.value)
    )
    statement = select(id_, *(part.scalar_subquery() for part in (schema, *latest)))
    return str(statement.compile(dialect=dialect))


def _asked(dialect: Dialect) -> TableValuedAlias:
    """The ids as a table of one column."""
    ids: Any = bindparam("ids")
    if dialect.name == "sqlite":
        return func.json_each(ids).table_valued("value", name="asked")
    return func.unnest(cast(ids, postgresql.ARRAY(TEXT))).table_valued("value", name="asked").render_derived()


@lru_cache(maxsize=64)
def _schema(text: str) -> Json:
    """A stored schema, parsed once: each row of a group brings it along."""
    schema: Json = from_text(text)
    return schema
