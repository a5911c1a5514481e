"""A table for states that were accepted as the new normal.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "acceptances",
        sa.Column("acceptance_id", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("report_id", sa.Text(), nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("accepted_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("acceptance_id", name=op.f("pk_acceptances")),
    )
    op.create_index(
        op.f("ix_acceptances_model_name_model_version_kind"),
        "acceptances",
        ["model_name", "model_version", "kind"],
        unique=False,
    )
    op.create_index(op.f("ix_acceptances_alert_id"), "acceptances", ["alert_id"], unique=False)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("acceptances")
