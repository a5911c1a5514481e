"""A shadow that hangs or is killed, a store that goes away, a service that is killed: no answer is touched."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load.driver import request_bytes
from tests.support.application import samples
from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.load import quick_settings, stored_in_sqlite, under_load
from tests.support.models.faulty import HANGS, build_moody
from tests.support.models.versions import NAME, ROW, build_versions
from tests.support.processes import Postgres, Service, serving

pytestmark = pytest.mark.fault
SETTINGS = quick_settings(SERVING__ACTIVE=f"{NAME}/1", SERVING__ALLOW_PICKLE="true", SERVING__SHADOWS='["4"]')
FEATURES = b'{"features": {"a": 2.0, "b": 1.0, "c": 0.0}, "prediction_id": "%s"}'


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions of a model, of which the fourth misbehaves on chosen rows."""
    models = tmp_path_factory.mktemp("versions")
    build_versions(models)
    build_moody(models, NAME, "4")
    return models


@pytest.fixture
def service(tmp_path: Path, models: Path) -> Iterator[Service]:
    """A service with the misbehaving version in the shadow, which has answered a first row."""
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        first(service)
        yield service


def first(service: Service) -> None:
    """Wait until the shadow answers."""
    service.call("POST", "/predict", {"features": ROW})
    wait_for(service, "stored", 1)


def shadow_rows(service: Service) -> dict[str, float]:
    """What became of the shadow's rows."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=DEADLINE_S) as answer:
        found = samples(answer.read().decode())
    return {dict(labels)["state"]: rows for (name, labels), rows in found.items() if name == "ml_shadow_rows_total"}


def wait_for(service: Service, state: str, rows: float) -> None:
    """Wait until so many of the shadow's rows have come to this."""
    wait_until(lambda: shadow_rows(service)[state] >= rows, lambda: (shadow_rows(service), service.log.read_text()))


def load(service: Service, notes: Path, number: int = 1000) -> tuple[list[str], set[int]]:
    """The ids, at least so many, that were acknowledged to 64 clients, and the statuses that they saw."""

    async def scenario() -> tuple[list[str], set[int]]:
        async with under_load(
            service.port, notes, lambda identity: request_bytes("/predict", FEATURES % identity.encode())
        ) as run:
            await run.more(number)
        return run.acknowledged, set(run.load.statuses)

    return asyncio.run(scenario())


def test_a_shadow_that_hangs_costs_no_request(service: Service, tmp_path: Path) -> None:
    """While the shadow hangs all are answered, and SIGTERM ends the service in time, its shadow with it."""
    service.call("POST", "/predict", {"features": ROW | {"a": HANGS}})
    _, statuses = load(service, tmp_path / "hanging.txt")
    child = shadow_process(service)

    assert statuses == {200}
    assert service.call("GET", "/health/ready")[0] == 200
    assert service.end(signal.SIGTERM) == 0
    assert not Path(f"/proc/{child}").exists()


def test_a_killed_shadow_comes_back(service: Service, tmp_path: Path) -> None:
    """Its process is killed under load: every request is answered, and it goes on with the rows that waited."""
    os.kill(shadow_process(service), signal.SIGKILL)
    acknowledged, statuses = load(service, tmp_path / "killed.txt")

    wait_for(service, "stored", 100)

    assert statuses == {200}
    rows = shadow_rows(service)
    assert rows["failed"] <= 2 * 128
    assert len(acknowledged) > 0
    assert service.log.read_text().count("shadow_failed") <= 1


def test_a_kill_doubles_no_answer(tmp_path: Path, models: Path) -> None:
    """After SIGKILL under load and a restart, every shadow's answer belongs to a stored prediction, and more follow."""
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        first(service)
        load(service, tmp_path / "before.txt")
        service.end(signal.SIGKILL)
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        acknowledged, _ = load(service, tmp_path / "after.txt")
        wait_for(service, "stored", len(acknowledged))
        assert service.end(signal.SIGTERM) == 0

    shadows = stored_in_sqlite(tmp_path / "plumbline.db", "shadow_predictions")
    assert shadows <= stored_in_sqlite(tmp_path / "plumbline.db")
    assert set(acknowledged) <= shadows


def test_rows_wait_for_a_store_that_is_away(tmp_path: Path, models: Path) -> None:
    """PostgreSQL goes right after the answers: their shadow's answers are stored when it is back."""
    postgres = Postgres()
    try:
        url = postgres.create_database("store")
        with serving(tmp_path, models=models, store=url, settings=SETTINGS) as service:
            first(service)
            _, answer = service.call("POST", "/predict", {"instances": [ROW] * 50})
            with postgres.away():
                wait_until(lambda: "store_unreachable" in service.log.read_text())
            wait_for(service, "stored", 51)
            rows = shadow_rows(service)
        stored = {identity for (identity,) in postgres.query("store", "SELECT prediction_id FROM shadow_predictions")}
    finally:
        postgres.stop()

    assert rows == {"stored": 51, "dropped": 0, "failed": 0}
    assert {given["prediction_id"] for given in answer["predictions"]} <= stored


def shadow_process(service: Service) -> int:
    """The id of the shadow's latest process, as the log names it."""
    lines = [line for line in service.log.read_text().splitlines() if "plumbline-shadow" in line]
    found = re.search(r'"pid":\s*(\d+)', lines[-1])
    assert found is not None
    return int(found[1])
