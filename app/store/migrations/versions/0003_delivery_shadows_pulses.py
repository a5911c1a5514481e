"""Tables for delivery, shadow answers and usage; an index of alerts by rule.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
_ALERT_INDEXES = (["model_name", "model_version", "rule", "changed_at"], ["state", "changed_at"])
_WAITING = sa.text("delivered_at IS NULL AND failed_at IS NULL")


def upgrade() -> None:
    """Make the three tables, and two indexes."""
    for columns in _ALERT_INDEXES:
        op.create_index(op.f(f"ix_alerts_{'_'.join(columns)}"), "alerts", columns, unique=False)
    op.create_table(
        "outbox",
        sa.Column("outbox_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("failed_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("outbox_id", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_created_at"), "outbox", ["created_at"], unique=False)
    op.create_index(op.f("ix_outbox_alert_id"), "outbox", ["alert_id"], unique=False)
    op.create_index(
        "ix_outbox_waiting", "outbox", ["next_try_at"], unique=False, sqlite_where=_WAITING, postgresql_where=_WAITING
    )
    op.create_table(
        "shadow_predictions",
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("prediction", sa.Text(), nullable=False),
        sa.Column("probabilities", sa.Text(), nullable=True),
        sa.Column("predicted_at", sa.BigInteger(), nullable=False),
        sa.Column("latency_us", sa.Integer(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("prediction_id", "model_version", name=op.f("pk_shadow_predictions")),
    )
    op.create_index(op.f("ix_shadow_predictions_predicted_at"), "shadow_predictions", ["predicted_at"], unique=False)
    op.create_index(
        "ix_shadow_predictions_sample",
        "shadow_predictions",
        ["model_name", "model_version", "level", "predicted_at"],
        unique=False,
    )
    op.create_table(
        "pulses",
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("replica", "model_version", name=op.f("pk_pulses")),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("pulses", "shadow_predictions", "outbox"):
        op.drop_table(table)
    for columns in _ALERT_INDEXES:
        op.drop_index(op.f(f"ix_alerts_{'_'.join(columns)}"), "alerts")
