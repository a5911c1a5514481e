"""The tables of the store.

Times are microseconds since the epoch (BIGINT). Values of any JSON type are JSON text.

Features are a JSON array in the order of the model's schema, which stands in ``models``: half the bytes of an object,
and so half the write. The sampling ``level`` of a row is a function of its id alone, so that every replica draws the
same sample.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, SmallInteger, Table, Text, text

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
