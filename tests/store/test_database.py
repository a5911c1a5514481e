"""The schema and its migrations, and who may open a database."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from app.errors import ConfigError, StoreLocked
from app.store.database import Database, check_reachable, open_database, open_readers, parse_url
from app.store.migrate import upgrade
from app.store.tables import METADATA
from tests.support.processes import Postgres


def test_migrations_make_the_tables_that_the_code_knows(database: Database) -> None:
    """Nothing is left to migrate after the last migration."""
    with database.writer.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})

        assert compare_metadata(context, METADATA) == []


def test_migrating_twice_changes_nothing(database: Database) -> None:
    """At the newest revision a migration is no act."""
    before, after = upgrade(database.writer)

    assert before == after


def test_migrations_can_be_taken_back(database: Database) -> None:
    """Down to nothing and up again."""
    with database.writer.begin() as connection:
        settings = Config()
        settings.set_main_option("script_location", str(Path(upgrade.__code__.co_filename).parent / "migrations"))
        settings.attributes["connection"] = connection
        command.downgrade(settings, "base")
        left = set(inspect(connection).get_table_names()) - {"alembic_version"}

    assert left == set()
    assert upgrade(database.writer)[0] is None


def test_a_newer_database_is_refused(database: Database) -> None:
    """A store that a newer version has migrated is not touched by an older one."""
    with database.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ConfigError, match="9999"):
        upgrade(database.writer)


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    """A second opening of one SQLite file is refused, also by another name for it; readers are welcome."""
    (tmp_path / "link.db").symlink_to(tmp_path / "store.db")
    first = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(first.writer)
    for name in ("store.db", "link.db"):
        with pytest.raises(StoreLocked, match="in use by another"):
            open_database(f"sqlite:///{tmp_path / name}")
    readers = open_readers(f"sqlite:///{tmp_path / 'store.db'}")
    with readers.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM predictions")).scalar_one() == 0
    readers.dispose()
    first.close()
    open_database(f"sqlite:///{tmp_path / 'store.db'}").close()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://", "sqlite:///", "sqlite:///:memory:", "postgresql://h:abc/d"]
)
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    """It is a mistake in the configuration, said in one line."""
    with pytest.raises(ConfigError, match=r"store\.url: .+"):
        parse_url(url)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """A missing folder, a folder for a file, a file that is no database, a server that is not there: one line each."""
    (tmp_path / "other").write_text("no database, and longer than a header of one hundred bytes " * 3)
    (tmp_path / "folder").mkdir()
    urls = [f"sqlite:///{tmp_path}/{name}" for name in ("nowhere/store.db", "folder", "other")]
    for url in [*urls, "postgresql+psycopg://u:s3cret@127.0.0.1:1/d"]:
        with pytest.raises(ConfigError) as caught:
            check(url)

        assert str(caught.value).startswith("store.url: ")
        assert len(str(caught.value).splitlines()) == 1
        assert "s3cret" not in str(caught.value)


def test_a_postgresql_that_cannot_hold_any_text_is_refused(postgres: Postgres) -> None:
    """The line names the encoding, and how a database with another one is made; bytes as they are will do."""
    for encoding in ("LATIN1", "SQL_ASCII"):
        name = f"in_{encoding.lower()}"
        postgres.execute(
            "postgres", f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    with pytest.raises(ConfigError, match=r"stores text as LATIN1, .* ENCODING 'UTF8'"):
        check(postgres.url("in_latin1"))
    check(postgres.url("in_sql_ascii"))


def test_settings_of_a_database_change_nothing_that_is_stored(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text and numbers come back as they were, whatever the database, the role or the environment has set."""
    url = postgres.create_database("odd_settings")
    for setting in ("client_encoding = 'LATIN1'", "extra_float_digits = -3", "standard_conforming_strings = off"):
        postgres.execute("postgres", f"ALTER DATABASE odd_settings SET {setting}")
    postgres.execute("postgres", "ALTER DATABASE odd_settings SET default_transaction_isolation = 'serializable'")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    database = open_database(url)
    with database.writer.connect() as connection:
        found = connection.execute(
            text("SELECT CAST(:number AS float8), :word"), {"number": 0.1 + 0.2, "word": "\U0001f600\\"}
        )
        row = found.one()
        isolation = connection.execute(text("SHOW transaction_isolation")).scalar()
    database.close()

    assert tuple(row) == (0.1 + 0.2, "\U0001f600\\")
    assert isolation == "read committed"


def check(url: str) -> None:
    """Open a database and ask for a sign of life."""
    database = open_database(url)
    try:
        check_reachable(database)
    finally:
        database.close()
