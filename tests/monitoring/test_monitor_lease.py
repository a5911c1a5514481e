"""The scheduler's turns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.errors import Unavailable
from app.metrics import JournalMetrics
from app.monitoring.monitor import Job, Scheduler
from app.store.database import open_database
from app.store.journal.journal import Journal
from app.store.migrate import upgrade


async def turn(folder: Path, failure: Exception) -> list[str]:
    """The jobs that ran in one turn, of which the first one fails."""
    database = open_database(f"sqlite:///{folder / 'store.db'}")
    upgrade(database.writer)
    journal = Journal(database, JournalMetrics(CollectorRegistry()), max_rows=1)
    journal.start()
    ran = []

    async def first() -> None:
        ran.append("first")
        raise failure

    async def second() -> None:
        ran.append("second")

    try:
        await Scheduler(journal, (Job("first", first), Job("second", second)), tick_s=60).tick()
    finally:
        await journal.close()
        database.close()
    return ran


def test_a_job_that_fails_starves_no_other(tmp_path: Path) -> None:
    """The jobs behind it run, and the log has its name and the reason."""
    failure = ValueError("a bug")
    with capture_logs() as logs:
        assert asyncio.run(turn(tmp_path, failure)) == ["first", "second"]

    assert [(entry["job"], entry["exc_info"]) for entry in logs] == [("first", failure)]


def test_without_the_store_the_turn_is_over(tmp_path: Path) -> None:
    """No job can do anything then."""
    with pytest.raises(Unavailable):
        asyncio.run(turn(tmp_path, Unavailable("away")))
