"""Bring the schema up to date, one process at a time."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from app.errors import ConfigError

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x706C756D
"""The number of PostgreSQL's advisory lock around a migration; SQLite's file lock already lets one process in."""


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Migrate to the newest revision; the revision before and after.

    Raises:
        ConfigError: the database was made by a newer Plumbline.
    """
    revisions = sorted(path.stem.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        before = _revision(connection)
        if before is not None and before not in revisions:
            raise ConfigError(
                f"store.url: the database has revision {before}, made by a newer plumbline: upgrade this one"
            )
        if before != revisions[-1]:
            _migrate(connection)
    return before, revisions[-1]


def _revision(connection: Connection) -> str | None:
    """Where the database stands; None where nobody has migrated it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _migrate(connection: Connection) -> None:
    from alembic import command  # 6 MiB that a service on a database of today need not hold
    from alembic.config import Config as AlembicConfig

    settings = AlembicConfig()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")
