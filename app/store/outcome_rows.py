"""What the store knows about reported ids, and the revisions to append: one statement each, compiled once.

Every reported outcome passes here, and a statement that is built and compiled for each group costs more than it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    ARRAY,
    TEXT,
    ColumnElement,
    Connection,
    TableValuedAlias,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.engine.interfaces import Dialect

from app.store.encoding import from_text
from app.store.inserting import insert_rows
from app.store.tables import MODELS, OUTCOMES, PREDICTIONS
from app.types import Json, Label, Micros

SLASH = "/"
"""Between a name and its version, which have none: both are names of folders."""


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
    found: list[tuple[str, str | None, int | None]] = orjson.loads(_ask(connection, _look_up, ids)[0][0])
    schemas = _schemas(connection, {version for _, version, _ in found if version is not None})
    reported = [id_ for id_, _, revision in found if revision]
    latest = {id_: rest for id_, *rest in _ask(connection, _latest, reported)} if reported else {}
    known: dict[str, Known] = {}
    for id_, version, revision in found:
        outcome, value = latest[id_] if revision else (None, None)
        schema = None if version is None else schemas.get(version, {})
        known[id_] = Known(schema, revision or 0, from_text(outcome), value)
    return known


def append(connection: Connection, rows: Sequence[Revision]) -> None:
    """Add revisions; IntegrityError where another replica has added one of them first.

    Two replicas that add revisions of the same ids lock them in the same order: they wait, and never for ever.
    """
    insert_rows(connection, OUTCOMES, sorted(rows))


def _ask(connection: Connection, what: Callable[[Dialect], str], ids: Sequence[str]) -> Sequence[Any]:
    """The rows about these ids, which are one parameter: any number of them is the same statement."""
    asked = orjson.dumps(ids).decode() if connection.dialect.name == "sqlite" else list(ids)
    return connection.exec_driver_sql(what(connection.dialect), (asked,)).all()


@lru_cache(maxsize=8)
def _look_up(dialect: Dialect) -> str:
    """Each id with the version that answered it, as name/version, and with the number of its latest revision.

    All in one JSON text: SQLite's driver gives the interpreter lock up at every row.

    Scalar subqueries, since PostgreSQL keeps the plan of a statement: one of joins, made while a table was small, read
    all of the table for every group once it had grown (80,000 rows: 5 ms a group instead of 0.5 ms).
    """
    id_ = _asked(dialect).c.value
    version = PREDICTIONS.c.model_name.concat(literal_column(f"'{SLASH}'")).concat(PREDICTIONS.c.model_version)
    answered = select(version).where(PREDICTIONS.c.prediction_id == id_)
    revision = select(func.max(OUTCOMES.c.revision)).where(OUTCOMES.c.prediction_id == id_)
    entry = (id_, answered.scalar_subquery(), revision.scalar_subquery())
    whole: ColumnElement[Any] = func.json_group_array(func.json_array(*entry))
    if dialect.name != "sqlite":
        whole = cast(func.json_agg(func.json_build_array(*entry)), TEXT)
    return str(select(whole).compile(dialect=dialect))


@lru_cache(maxsize=8)
def _latest(dialect: Dialect) -> str:
    """Each id with its latest outcome and value: apart, since most reports are the first."""
    id_ = _asked(dialect).c.value
    parts = (
        select(column)
        .where(OUTCOMES.c.prediction_id == id_)
        .order_by(OUTCOMES.c.revision.desc())
        .limit(literal_column("1"))
        .offset(literal_column("0"))  # SQLite would write a parameter otherwise
        for column in (OUTCOMES.c.outcome, OUTCOMES.c.value)
    )
    return str(select(id_, *(part.scalar_subquery() for part in parts)).compile(dialect=dialect))


def _asked(dialect: Dialect) -> TableValuedAlias:
    """The ids as a table of one column."""
    ids: Any = bindparam("ids")
    if dialect.name == "sqlite":
        return func.json_each(ids).table_valued("value", name="asked")
    return func.unnest(cast(ids, ARRAY(TEXT))).table_valued("value", name="asked").render_derived()


def _schemas(connection: Connection, versions: AbstractSet[str]) -> dict[str, Json]:
    """The stored schemas of these versions, by name/version; a version that was never noted has none.

    What is once noted stands, and so is kept with the connection.
    """
    kept: dict[str, Json] = connection.info.setdefault("schemas", {})
    for key in versions - kept.keys():
        text = connection.exec_driver_sql(_schema_of(connection.dialect), tuple(key.split(SLASH, 1))).scalar()
        if text is not None:
            kept[key] = from_text(text)
    return kept


@lru_cache(maxsize=8)
def _schema_of(dialect: Dialect) -> str:
    wanted = select(MODELS.c.schema).where(MODELS.c.name == bindparam("name"), MODELS.c.version == bindparam("version"))
    return str(wanted.compile(dialect=dialect))
