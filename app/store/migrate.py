"""Bring the schema up to date, one process at a time."""

from __future__ import annotations

import multiprocessing
import sys
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from app.errors import ConfigError
from app.store.database import open_database, parse_url

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


def create_apart(url: str) -> None:
    """Create a new SQLite file in a child process.

    Alembic's memory is given back when that process ends.

    Whatever is wrong with the place, the process that opens it will see for itself and say. Only while no other thread
    runs; an old store, another database, and one on another system than Linux, is migrated where it is opened.
    """
    parsed = parse_url(url)
    if sys.platform == "linux" and parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        process = multiprocessing.get_context("fork").Process(target=_create, args=(url,))
        process.start()
        process.join()


def _create(url: str) -> None:
    with suppress(Exception):
        database = open_database(url)
        upgrade(database.writer)
        database.close()


def _revision(connection: Connection) -> str | None:
    """Give the revision of the database's schema, or None where nobody has migrated it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _migrate(connection: Connection) -> None:
    from alembic import command  # 8 MiB that a service on a database of today need not hold
    from alembic.config import Config as AlembicConfig

    settings = AlembicConfig()
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")
