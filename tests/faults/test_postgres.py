"""PostgreSQL that crashes under load, and two replicas on one PostgreSQL."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.clients import ledger, under_load
from tests.servers import Postgres, serving

pytestmark = pytest.mark.fault


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL server that a test may crash."""
    server = Postgres()
    yield server
    server.stop()


def test_a_database_crash_loses_and_doubles_nothing(tmp_path: Path, example_models: Path, mortal: Postgres) -> None:
    """Three crashes under 64 clients that repeat what was refused: no row missing, none twice, and no 500."""
    url = mortal.create_database("store")

    async def scenario(port: int) -> tuple[list[str], set[int]]:
        async with under_load(port, example_models, tmp_path / "acknowledged.txt") as run:
            for _ in range(3):
                await asyncio.sleep(1.0)
                await asyncio.to_thread(mortal.crash)
            await asyncio.sleep(2.0)
        return run.acknowledged, set(run.load.statuses)

    with serving(tmp_path, models=example_models, store=url) as service:
        acknowledged, statuses = asyncio.run(scenario(service.port))
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=10) as answer:
            accepted, accounted = ledger(answer.read().decode())
    stored = [identity for (identity,) in mortal.query("store", "SELECT prediction_id FROM predictions")]

    assert set(acknowledged) - set(stored) == set()
    assert len(acknowledged) == len(set(acknowledged))
    assert len(stored) == len(set(stored))
    assert statuses <= {200, 503}
    assert accepted == accounted


def test_replicas_give_the_same_report(tmp_path: Path, example_models: Path, postgres: Postgres) -> None:
    """Two processes on one database answer /drift with the same report, whoever made it, and log no error."""
    url = postgres.create_database("replicas")
    settings = {"DRIFT__EVERY": "1h", "PERFORMANCE__EVERY": "1h"}
    with (
        serving(tmp_path, models=example_models, store=url, settings=settings) as first,
        serving(tmp_path, models=example_models, store=url, settings=settings) as second,
    ):
        features = first.call("GET", "/models/breast_cancer")[1]["versions"][0]["features"]
        row = {feature["name"]: feature["low"] for feature in features}
        for service in (first, second):
            assert service.call("POST", "/predict", {"instances": [row] * 300})[0] == 200
        for checker in (first, second):
            assert checker.call("POST", "/checks")[0] == 200
            reports = [replica.call("GET", "/drift")[1] for replica in (first, second)]

            assert reports[0] == reports[1]
            assert reports[0]["window"]["rows"] == 600
    errors = [line for replica in (first, second) for line in replica.log.read_text().splitlines() if '"error"' in line]

    assert errors == []
