"""Bring the schema up to date, one process at a time."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from app.errors import ConfigError

MIGRATION_LOCK = 0x706C756D
"""The number of PostgreSQL's advisory lock around a migration; SQLite's file lock already lets one process in."""


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Migrate to the newest revision; the revision before and after.

    Raises:
        ConfigError: the database was made by a newer Plumbline.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    head = scripts.get_current_head() or ""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        before = MigrationContext.configure(connection).get_current_revision()
        if before is not None and before not in {script.revision for script in scripts.walk_revisions()}:
            raise ConfigError(
                f"store.url: the database has revision {before}, made by a newer plumbline: upgrade this one"
            )
        if before != head:
            settings = AlembicConfig()
            settings.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
            settings.attributes["connection"] = connection
            command.upgrade(settings, "head")
    return before, head
