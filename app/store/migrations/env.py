"""Alembic's entry: run on the connection that :mod:`app.store.migrate` hands in."""

from __future__ import annotations

from alembic import context

from app.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
