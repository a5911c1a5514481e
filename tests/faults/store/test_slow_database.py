"""A PostgreSQL that hangs."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from pathlib import Path

import httpx
import pytest

from app.store.database import STATEMENT_TIMEOUT_S
from tests.support.application import samples
from tests.support.load import batch, quick_settings
from tests.support.processes import Postgres, serving

QUEUE_ROWS = 64
HANG = """
    CREATE TABLE hanging (since timestamptz);
    CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN IF EXISTS (SELECT FROM hanging) THEN PERFORM pg_sleep(60); END IF; RETURN NULL; END';
    CREATE TRIGGER hang BEFORE INSERT ON predictions EXECUTE FUNCTION hang();
    INSERT INTO hanging VALUES (now());
"""


@pytest.mark.fault
def test_a_hanging_database_is_a_bounded_queue(tmp_path: Path, example_models: Path, postgres: Postgres) -> None:
    """The queue is refused when the statement times out, what exceeds it at once; then rows are stored again.

    The metrics show the long wait.
    """
    database = "hanging"
    url = postgres.create_database(database)

    async def scenario(service: str) -> tuple[list[httpx.Response], httpx.Response, float, float, httpx.Response]:
        async with httpx.AsyncClient(base_url=service, timeout=30) as client:

            async def send(name: str, rows: int) -> httpx.Response:
                return await client.post("/predict", json=batch(example_models, name, rows))

            started = time.monotonic()
            waiting = [asyncio.create_task(send(f"waiting-{number}", QUEUE_ROWS // 4)) for number in range(4)]
            await asyncio.sleep(1.0)
            asked = time.monotonic()
            refused = await send("refused", 1)
            at_once = time.monotonic() - asked
            assert (await client.get("/health/live")).status_code == 200
            postgres.execute(database, "DELETE FROM hanging")
            answers = await asyncio.gather(*waiting)
            return answers, refused, at_once, time.monotonic() - started, await send("stored", 1)

    settings = quick_settings(SERVING__MAX_QUEUE_ROWS=str(QUEUE_ROWS))
    with serving(tmp_path, models=example_models, store=url, settings=settings) as service:
        postgres.execute(database, HANG)
        answers, refused, at_once, seconds, stored = asyncio.run(scenario(f"http://127.0.0.1:{service.port}"))
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=10) as scraped:
            measured = samples(scraped.read().decode())
    rows = {identity for (identity,) in postgres.query(database, "SELECT prediction_id FROM predictions")}
    acknowledged = {
        row["prediction_id"]
        for answer in [*answers, stored]
        if answer.status_code == 200
        for row in answer.json()["predictions"]
    }

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert at_once < 0.5
    assert 503 in {answer.status_code for answer in answers} <= {200, 503}
    assert STATEMENT_TIMEOUT_S - 1 < seconds < STATEMENT_TIMEOUT_S + 5
    assert stored.status_code == 200
    assert acknowledged == rows
    assert measured["ml_journal_commit_seconds_sum", ()] > STATEMENT_TIMEOUT_S - 1
