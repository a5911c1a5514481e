"""Checkpoints beside the writer: SQLite's log begins anew, and no commit fails by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from app.store.checkpoints import LOG_PAGES, Checkpoints
from app.store.engine import Database, open_database
from app.store.migrate import upgrade
from app.store.predictions import insert
from app.store.writer import Writer
from tests.store.rows import prediction

PAGE = 4096
GROUP = 100


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite store."""
    opened = open_database(f"sqlite:///{tmp_path}/store.db")
    upgrade(opened.writer)
    yield opened
    opened.close()


def write(writer: Writer, first: int, groups: int) -> None:
    """Commit groups of rows, each of more than a page."""
    for group in range(first, first + groups):
        writer.commit([(insert, [prediction(f"{group}-{row}", features=["x" * PAGE]) for row in range(GROUP)])])


def pages_of_log(store: Database) -> int:
    """The size of the log, which is reused and never shrinks below what it once held."""
    return Path(f"{store.writer.url.database}-wal").stat().st_size // PAGE


def pages_of_store(engine: Engine) -> int:
    """The pages of the database, in its file or in the log."""
    with engine.connect() as connection:
        return int(connection.execute(text("PRAGMA page_count")).scalar_one())


def test_the_log_is_used_again(store: Database) -> None:
    """However much is written, the log holds a small part of it."""
    writer = Writer(store.writer, store.checkpoints)
    write(writer, 0, 150)
    assert pages_of_store(store.readers) > 15 * LOG_PAGES
    assert pages_of_log(store) < 5 * LOG_PAGES
    writer.drop()


def test_a_reader_that_stays_is_not_disturbed(store: Database) -> None:
    """A reader that keeps its snapshot sees what it saw while the log grows; afterwards the log is used again."""
    writer = Writer(store.writer, store.checkpoints)
    count = text("SELECT count(*) FROM predictions")
    with store.readers.connect() as reader:
        before = reader.execute(count).scalar_one()
        write(writer, 0, 40)
        assert reader.execute(count).scalar_one() == before
        grown = pages_of_log(store)
    assert grown > 4 * LOG_PAGES
    write(writer, 40, 150)
    assert pages_of_log(store) < 2 * grown
    writer.drop()


def test_a_checkpoint_that_fails_fails_no_commit(store: Database, tmp_path: Path) -> None:
    """Where the log cannot be copied the rows are stored all the same."""
    broken = Checkpoints(create_engine(f"sqlite:///{tmp_path}/no/such/folder.db"))
    writer = Writer(store.writer, broken)
    write(writer, 0, 30)
    with store.readers.connect() as reader:
        assert reader.execute(text("SELECT count(*) FROM predictions")).scalar_one() == 30 * GROUP
    writer.drop()
    broken.close()
