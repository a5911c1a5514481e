"""PostgreSQL that crashes, and is restarted, under load."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.load import ledger, predict_requests, under_load
from tests.support.processes import Postgres, serving

pytestmark = pytest.mark.fault


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL server that a test may crash."""
    server = Postgres()
    yield server
    server.stop()


def test_a_database_crash_loses_and_doubles_nothing(tmp_path: Path, example_models: Path, mortal: Postgres) -> None:
    """Crashes and a restart under 64 clients that repeat what was refused: no row missing, none twice, and no 500."""
    url = mortal.create_database("store")

    async def scenario(port: int) -> tuple[list[str], set[int]]:
        async with under_load(port, tmp_path / "acknowledged.txt", predict_requests(example_models)) as run:
            for _ in range(3):
                await run.more()
                await asyncio.to_thread(mortal.crash)
            await run.more()
        return run.acknowledged, set(run.load.statuses)

    with serving(tmp_path, models=example_models, store=url) as service:
        acknowledged, statuses = asyncio.run(scenario(service.port))
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=DEADLINE_S) as answer:
            accepted, accounted = ledger(answer.read().decode())
    stored = [identity for (identity,) in mortal.query("store", "SELECT prediction_id FROM predictions")]

    assert set(acknowledged) - set(stored) == set()
    assert len(acknowledged) == len(set(acknowledged))
    assert len(stored) == len(set(stored))
    assert statuses <= {200, 503}
    assert accepted == accounted
