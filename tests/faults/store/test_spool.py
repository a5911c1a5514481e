"""PostgreSQL away for seconds under load: with a spool nobody notices, without one everybody is told to come again."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest

from app.store.database import STATEMENT_TIMEOUT_S
from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.load import CLIENTS, batch, ledger, live_row, predict_requests, quick_settings, under_load
from tests.support.processes import Postgres, Service, launch, serving

pytestmark = pytest.mark.fault
SPOOL = quick_settings(STORE__ON_OUTAGE="spool", OUTCOMES__UNKNOWN="reject")


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A PostgreSQL server that a test may stop."""
    server = Postgres()
    yield server
    server.stop()


def scrape(service: Service) -> str:
    """One scrape of the service."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=DEADLINE_S) as answer:
        return str(answer.read().decode())


def wait_forwarded(service: Service) -> None:
    """Wait until the store answers and nothing is spooled any more."""
    wait_until(lambda: service.call("GET", "/health/ready")[1]["checks"]["store"] is True)


def stored_ids(postgres: Postgres) -> list[str]:
    """Every id in the store, as often as it is there."""
    return [identity for (identity,) in postgres.query("store", "SELECT prediction_id FROM predictions")]


def test_nobody_notices_an_outage(tmp_path: Path, example_models: Path, mortal: Postgres) -> None:
    """Through two outages under 64 clients all are answered, every id is stored once, and each scrape adds up."""
    url = mortal.create_database("store")
    scrapes: list[tuple[float, float]] = []
    ready: list[tuple[int, object]] = []

    async def scenario(service: Service) -> tuple[list[str], set[int]]:
        async with under_load(service.port, tmp_path / "acknowledged.txt", predict_requests(example_models)) as run:
            for _ in range(2):
                await run.more()
                with mortal.away():
                    await run.more()
                    scrapes.extend([ledger(await asyncio.to_thread(scrape, service)) for _ in range(10)])
                    status, body = await asyncio.to_thread(service.call, "GET", "/health/ready")
                    ready.append((status, body["checks"]["store"]))
                for _ in range(10):
                    await run.more(CLIENTS)
                    scrapes.append(ledger(await asyncio.to_thread(scrape, service)))
        return run.acknowledged, set(run.load.statuses)

    with serving(tmp_path, models=example_models, store=url, settings=SPOOL) as service:
        acknowledged, statuses = asyncio.run(scenario(service))
        wait_forwarded(service)
        text = scrape(service)
    stored = stored_ids(mortal)

    assert statuses == {200}
    assert ready == [(200, "spooling")] * 2
    assert set(acknowledged) - set(stored) == set()
    assert len(stored) == len(set(stored))
    assert [accepted - accounted for accepted, accounted in scrapes] == [0] * len(scrapes)
    assert "ml_journal_spooled_rows 0.0" in text
    assert 'ml_journal_rows_total{state="conflict"} 0.0' in text


def test_a_spool_survives_being_killed(tmp_path: Path, example_models: Path, mortal: Postgres) -> None:
    """Killed while spooling and started again without a store, it answers replays, and forwards all when it can."""
    url = mortal.create_database("store")
    body = batch(example_models, "spooled")
    service = launch(tmp_path, models=example_models, store=url, settings=SPOOL)
    try:
        service.wait_ready()
        with mortal.away():
            first = service.call("POST", "/predict", body)
            truth = first[1]["predictions"][0]["prediction"]
            pending = service.call("POST", "/outcome", {"prediction_id": "spooled-0", "outcome": truth})
            service.process.kill()
            service.process.wait()
            service = launch(tmp_path, models=example_models, store=url, port=service.port, settings=SPOOL)
            service.wait_ready()
            replayed = service.call("POST", "/predict", body)
            other = {"features": dict.fromkeys(_row(body), 1.0), "prediction_id": "spooled-0"}
            refused = service.call("POST", "/predict", other)
            found = ledger(scrape(service))
        wait_forwarded(service)
        outcome = service.call("GET", "/predictions/spooled-0")[1]["outcome"]["outcome"]
        after = scrape(service)
    finally:
        service.process.kill()
        service.process.wait()
    stored = stored_ids(mortal)

    assert (first[0], pending) == (200, (200, {"prediction_id": "spooled-0", "status": "pending"}))
    assert replayed == first
    assert refused[0] == 409
    assert found == (200.0, 200.0)
    assert (len(stored), len(set(stored)), outcome) == (200, 200, truth)
    assert 'ml_journal_rows_total{state="forwarded"} 200.0' in after


def test_a_fresh_store_may_come_later(tmp_path: Path, example_models: Path, mortal: Postgres) -> None:
    """Started for the first time while the store is away, it serves; the store is migrated and filled when it comes."""
    url = mortal.create_database("store")
    with ExitStack() as running:
        with mortal.away():
            service = running.enter_context(serving(tmp_path, models=example_models, store=url, settings=SPOOL))
            answer = service.call("POST", "/predict", batch(example_models, "early", 3))
        wait_forwarded(service)

    assert answer[0] == 200
    assert sorted(stored_ids(mortal)) == ["early-0", "early-1", "early-2"]


def test_a_start_without_the_store_opens_nothing(tmp_path: Path, example_models: Path, mortal: Postgres) -> None:
    """Keys of the store close a service also after a start without it: no key is a 401, and a stored one is taken."""
    url = mortal.create_database("store")
    body = {"features": live_row(example_models)}
    service = launch(tmp_path, models=example_models, store=url, settings=SPOOL)
    try:
        service.wait_ready()
        key = service.call("POST", "/keys", {"name": "made", "scopes": ["predict", "read", "admin"]})[1]["key"]
        with mortal.away():
            service.process.kill()
            service.process.wait()
            service = launch(tmp_path, models=example_models, store=url, port=service.port, settings=SPOOL)
            service.wait_ready()
            without = [service.call(*asked)[0] for asked in (("POST", "/predict", body), ("GET", "/models"))]
            taken = service.call("POST", "/predict", body, {"X-API-Key": key})[0]
        files = {file.name for file in tmp_path.glob("spool*") if file.stat().st_mode & 0o077}
    finally:
        service.process.kill()
        service.process.wait()

    assert (without, taken) == ([401, 401], 200)
    assert files == set()


def test_a_standby_and_a_locked_table_are_outages(tmp_path: Path, example_models: Path, mortal: Postgres) -> None:
    """A store that takes no writes is spooled for at once; of one that is too slow, only the first rows wait."""
    url = mortal.create_database("store")
    end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'plumbline'"
    with serving(tmp_path, models=example_models, store=url, settings=SPOOL) as service:
        mortal.execute("store", "ALTER DATABASE store SET default_transaction_read_only = on")
        mortal.query("store", end_sessions)
        standby = service.call("POST", "/predict", batch(example_models, "standby", 3))[0]
        spooled = service.call("GET", "/health/ready")[1]
        mortal.execute("postgres", "ALTER DATABASE store RESET ALL")
        mortal.query("store", end_sessions)
        wait_forwarded(service)
        with psycopg.connect(url.replace("+psycopg", "")) as other:
            other.execute("LOCK TABLE predictions IN EXCLUSIVE MODE")
            with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=DEADLINE_S) as client:
                locked = client.post("/predict", json=batch(example_models, "locked", 2)).status_code
            started = time.monotonic()
            after = service.call("POST", "/predict", batch(example_models, "after", 1))[0]
            seconds = time.monotonic() - started
        wait_forwarded(service)

    assert (standby, locked, after) == (200, 200, 200)
    assert seconds < STATEMENT_TIMEOUT_S
    assert (spooled["checks"]["store"], spooled["spooled"]) == ("spooling", 3)
    assert sorted(stored_ids(mortal)) == ["after-0", "locked-0", "locked-1", "standby-0", "standby-1", "standby-2"]


def test_without_a_spool_callers_come_again(tmp_path: Path, example_models: Path, mortal: Postgres) -> None:
    """With ``on_outage: reject`` a caller gets 503 and Retry-After, and its answer when the store is back."""
    url = mortal.create_database("store")
    with (
        serving(tmp_path, models=example_models, store=url, settings=quick_settings()) as service,
        httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=DEADLINE_S) as client,
    ):
        body = batch(example_models, "retried", 2)
        with mortal.away():
            refused = [client.post("/predict", json=body) for _ in range(5)]
            ready = client.get("/health/ready").status_code
        wait_until(lambda: client.post("/predict", json=body).status_code == 200)

    assert [(answer.status_code, answer.headers["retry-after"]) for answer in refused] == [(503, "1")] * 5
    assert ready == 503
    assert sorted(stored_ids(mortal)) == ["retried-0", "retried-1"]


def _row(body: dict[str, object]) -> dict[str, float]:
    """The features of the first instance of a batch."""
    instances = body["instances"]
    assert isinstance(instances, list)
    row: dict[str, float] = instances[0]
    return row
