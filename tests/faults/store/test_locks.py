"""Other users of the SQLite file: one that locks it, one that reads for long."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from app.store.database import WAL_BYTES
from tests.support.deadlines import DEADLINE_S
from tests.support.load import batch, quick_settings, stored_in_sqlite
from tests.support.processes import serving

pytestmark = pytest.mark.fault


@contextmanager
def holding(file: Path, begin: str) -> Iterator[None]:
    """Hold a transaction on the file from this process; the connection stays open until the service has ended."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(begin)
        connection.execute("SELECT count(*) FROM predictions").fetchone()
        yield
        connection.execute("ROLLBACK")


async def probes_before(client: httpx.AsyncClient, other: asyncio.Task[httpx.Response]) -> int:
    """Ask /health/live again and again until the other request is answered; the number of answers before that one."""
    probes = 0
    while not other.done():
        answer = await client.get("/health/live")
        assert answer.status_code == 200
        probes += not other.done()
        await asyncio.wait([other], timeout=0.05)
    return probes


def test_a_locked_file_is_a_bounded_wait(tmp_path: Path, example_models: Path) -> None:
    """A request is refused while another process still locks the file, health answers, and the service recovers."""

    async def scenario(url: str) -> tuple[httpx.Response, int, httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as client:
            with holding(tmp_path / "plumbline.db", "BEGIN IMMEDIATE"):
                waiting = asyncio.create_task(client.post("/predict", json=batch(example_models, "locked", 1)))
                probes = await probes_before(client, waiting)
            return await waiting, probes, await client.post("/predict", json=batch(example_models, "free", 1))

    with serving(tmp_path, models=example_models, settings=quick_settings()) as service:
        refused, probes, stored = asyncio.run(scenario(f"http://127.0.0.1:{service.port}"))

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert probes >= 3
    assert stored.status_code == 200
    assert stored_in_sqlite(tmp_path / "plumbline.db") == {"free-0"}


def test_a_long_reader_stops_nobody(tmp_path: Path, example_models: Path) -> None:
    """While somebody reads one old state, rows are stored and the log grows; afterwards the log shrinks again."""
    log = tmp_path / "plumbline.db-wal"
    acknowledged: set[str] = set()
    with (
        serving(tmp_path, models=example_models, settings=quick_settings()) as service,
        httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=DEADLINE_S) as client,
    ):

        def store(prefix: str) -> None:
            answer = client.post("/predict", json=batch(example_models, prefix, 500))
            acknowledged.update(row["prediction_id"] for row in answer.raise_for_status().json()["predictions"])

        with holding(tmp_path / "plumbline.db", "BEGIN"):
            rounds = 0
            while log.stat().st_size <= WAL_BYTES + 4 * 2**20 and rounds < 200:
                store(f"reader-{rounds}")
                rounds += 1
            grown = log.stat().st_size
        for number in range(3):
            store(f"after-{number}")
        shrunk = log.stat().st_size

    assert grown > WAL_BYTES >= shrunk
    assert acknowledged == stored_in_sqlite(tmp_path / "plumbline.db")
    assert len(acknowledged) == 500 * (rounds + 3)
