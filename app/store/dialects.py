"""The INSERT of each database, which alone can leave out or replace what is there; only the one in use is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Table
from sqlalchemy.engine.interfaces import Dialect

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite


def insert_into(dialect: Dialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can be told ``on_conflict_do_nothing`` or ``on_conflict_do_update``."""
    if dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # with all its drivers' adapters, 2 MiB

    return postgresql.insert(table)
