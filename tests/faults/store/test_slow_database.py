"""A PostgreSQL that hangs."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import httpx
import pytest

from app.store.database import STATEMENT_TIMEOUT_S
from tests.support.application import samples
from tests.support.deadlines import DEADLINE_S
from tests.support.load import batch, quick_settings
from tests.support.processes import Postgres, Service, serving
from tests.support.raw_client import wait_for

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

    async def scenario(service: Service) -> tuple[list[httpx.Response], httpx.Response, httpx.Response]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}", timeout=DEADLINE_S) as client:

            async def send(name: str, rows: int) -> httpx.Response:
                return await client.post("/predict", json=batch(example_models, name, rows))

            waiting = [asyncio.create_task(send(f"waiting-{number}", QUEUE_ROWS // 4)) for number in range(4)]
            await asyncio.to_thread(wait_for, service, "ml_journal_queue_rows", QUEUE_ROWS)
            refused = await send("refused", 1)
            assert (await client.get("/health/live")).status_code == 200
            postgres.execute(database, "DELETE FROM hanging")
            answers = await asyncio.gather(*waiting)
            return answers, refused, await send("stored", 1)

    settings = quick_settings(SERVING__MAX_QUEUE_ROWS=str(QUEUE_ROWS))
    with serving(tmp_path, models=example_models, store=url, settings=settings) as service:
        postgres.execute(database, HANG)
        answers, refused, stored = asyncio.run(scenario(service))
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=DEADLINE_S) as scraped:
            measured = samples(scraped.read().decode())
    rows = {identity for (identity,) in postgres.query(database, "SELECT prediction_id FROM predictions")}
    acknowledged = {
        row["prediction_id"]
        for answer in [*answers, stored]
        if answer.status_code == 200
        for row in answer.json()["predictions"]
    }

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "too many rows" in refused.json()["detail"]
    assert 503 in {answer.status_code for answer in answers} <= {200, 503}
    assert stored.status_code == 200
    assert acknowledged == rows
    assert measured["ml_journal_commit_seconds_sum", ()] > STATEMENT_TIMEOUT_S - 1
