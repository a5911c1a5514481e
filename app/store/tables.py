"""The tables of the store, and the statements that differ between SQLite and PostgreSQL.

Times are microseconds since the epoch (BIGINT). Values of any JSON type are JSON text.

Features are a JSON array in the order of the model's schema, which stands in ``models``: half the bytes of an object,
and so half the write. The sampling ``level`` of a row is a function of its id alone, so that every replica draws the
same sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

MODELS = Table(
    "models",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("first_loaded_at", BigInteger, nullable=False),
)

PREDICTIONS = Table(
    "predictions",
    METADATA,
    Column("prediction_id", Text, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("features", Text, nullable=False),
    Column("prediction", Text, nullable=False),
    Column("probabilities", Text),
    Column("context", Text),
    Column("predicted_at", BigInteger, nullable=False),
    Column("latency_us", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Index(None, "predicted_at"),
    Index(None, "model_name", "model_version", "level", "predicted_at"),
)

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("prediction_id", Text, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("value", Float),
    Column("observed_at", BigInteger),
    Column("recorded_at", BigInteger, nullable=False),
    Column("recorded_by", Text),
    Index(None, "recorded_at"),
)

REPORTS = Table(
    "reports",
    METADATA,
    Column("report_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("checked_at", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index(None, "model_name", "model_version", "kind", "checked_at"),
)

ALERTS = Table(
    "alerts",
    METADATA,
    Column("alert_id", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("report_id", Text, ForeignKey("reports.report_id"), nullable=False),
    Column("body", Text, nullable=False),
    Column("held", Integer, nullable=False, server_default="1"),
    Column("told_at", BigInteger),
    Column("acknowledged_at", BigInteger),
    Column("acknowledged_by", Text),
    Index(None, "model_name", "model_version", "state", "changed_at"),
    Index(None, "model_name", "model_version", "rule", "changed_at"),
    Index(None, "state", "changed_at"),
)
_FIRING = ALERTS.c.state == "firing"
Index(
    "uq_alerts_firing",
    ALERTS.c.model_name,
    ALERTS.c.model_version,
    ALERTS.c.rule,
    unique=True,
    sqlite_where=_FIRING,
    postgresql_where=_FIRING,
)

SILENCES = Table(
    "silences",
    METADATA,
    Column("silence_id", Text, primary_key=True),
    Column("rule", Text),
    Column("severity", Text),
    Column("feature", Text),
    Column("starts_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_by", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index(None, "ends_at"),
)

ACCEPTANCES = Table(
    "acceptances",
    METADATA,
    Column("acceptance_id", Text, primary_key=True),
    Column("alert_id", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("report_id", Text, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("accepted_by", Text),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("ended_at", BigInteger),
    Index(None, "model_name", "model_version", "kind"),
    Index(None, "alert_id"),
)

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("outbox_id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("alert_id", Text),
    Column("body", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("next_try_at", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("delivered_at", BigInteger),
    Column("failed_at", BigInteger),
    Column("error", Text),
    Index(None, "created_at"),
    Index(None, "alert_id"),
)
_WAITING = text("delivered_at IS NULL AND failed_at IS NULL")
Index("ix_outbox_waiting", OUTBOX.c.next_try_at, sqlite_where=_WAITING, postgresql_where=_WAITING)

SHADOW_PREDICTIONS = Table(
    "shadow_predictions",
    METADATA,
    Column("prediction_id", Text, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, primary_key=True),
    Column("prediction", Text, nullable=False),
    Column("probabilities", Text),
    Column("predicted_at", BigInteger, nullable=False),
    Column("latency_us", Integer, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Index(None, "predicted_at"),
    Index("ix_shadow_predictions_sample", "model_name", "model_version", "level", "predicted_at"),
)

FIGURES = Table(
    "figures",
    METADATA,
    Column("model_name", Text, primary_key=True),
    Column("model_version", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("total", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("last", Float, nullable=False),
    Index(None, "at"),
)

PULSES = Table(
    "pulses",
    METADATA,
    Column("replica", Text, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("token", BigInteger, nullable=False),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("model", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("revoked_by", Text),
    Column("last_used_at", BigInteger),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("audit_id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("act", Text, nullable=False),
    Column("by", Text),
    Column("body", Text, nullable=False),
    Index(None, "at"),
)

SETTINGS = Table(
    "settings",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)


def insert_into(dialect: Dialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can be told ``on_conflict_do_nothing`` or ``on_conflict_do_update``."""
    return sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)


def to_text(value: Any) -> str:
    """JSON text; NaN and Infinity never get this far."""
    return orjson.dumps(value).decode()


def to_text_or_none(value: Any) -> str | None:
    """JSON text, or NULL for None."""
    return None if value is None else to_text(value)


def from_text(text: str | None) -> Any:
    """The value of :func:`to_text_or_none`."""
    return None if text is None else orjson.loads(text)


def many_from_text(texts: Iterable[str | None]) -> list[Any]:
    """The values of many texts, as :func:`from_text` gives each, in one call of the parser."""
    values: list[Any] = orjson.loads(f"[{','.join('null' if text is None else text for text in texts)}]")
    return values


MAX_INSERT_ROWS = 256
"""Rows in one statement on SQLite, which bounds the parameters of a statement."""
ANY_NUMBER = 64
"""Up to so many rows are one statement, whatever their number."""


def insert_rows(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]], *, replay: bool = False) -> int:
    """Insert rows, each in the order of the table's columns; the number inserted.

    SQLite's driver gives the interpreter lock up at every statement, and waits for it while the event loop is busy: so
    it gets blocks of rows, each of a size that is compiled once. PostgreSQL's driver sends them all at once.

    Args:
        replay: leave out the rows whose key is taken; else they are an IntegrityError.
    """
    dialect = connection.dialect
    if rows and dialect.name != "sqlite":
        return connection.exec_driver_sql(insert_statement(dialect, table, 1, replay=replay), rows).rowcount
    inserted = start = 0
    while start < len(rows):
        left = len(rows) - start
        size = left if left <= ANY_NUMBER else min(1 << (left.bit_length() - 1), MAX_INSERT_ROWS)
        values = tuple(chain.from_iterable(rows[start : start + size]))
        inserted += connection.exec_driver_sql(insert_statement(dialect, table, size, replay=replay), values).rowcount
        start += size
    return inserted


@lru_cache(maxsize=256)
def insert_statement(dialect: Dialect, table: Table, rows: int, *, replay: bool) -> str:
    """Give the text of an INSERT of so many rows.

    Text that is compiled once need not be looked up for every group.
    """
    statement = insert_into(dialect, table)
    if replay:
        statement = statement.on_conflict_do_nothing(index_elements=list(table.primary_key))
    head, _, rest = str(statement.compile(dialect=dialect)).partition(" VALUES ")
    values, conflict, tail = rest.partition(" ON CONFLICT ")
    return f"{head} VALUES {', '.join([values] * rows)}{conflict}{tail}"
