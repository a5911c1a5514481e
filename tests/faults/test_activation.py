"""A version is activated under the load of 64 real connections, and after a kill the choice still stands."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.support.load import CLIENTS, predict_requests, quick_settings, stored_in_sqlite, under_load
from tests.support.models.bundles import rewrite
from tests.support.processes import Service, serving

pytestmark = pytest.mark.fault
ACTIVATE = "/models/breast_cancer/activate"
SWITCHES = 6


@pytest.fixture
def models(example_models: Path, tmp_path: Path) -> Path:
    """The example in two versions."""
    folder = tmp_path / "models"
    shutil.copytree(example_models, folder)
    shutil.copytree(folder / "breast_cancer" / "1", folder / "breast_cancer" / "2")
    rewrite(folder / "breast_cancer" / "2", version="2")
    return folder


def test_activation_under_load_fails_no_request(tmp_path: Path, models: Path) -> None:
    """Six activations with 64 connections: every request is answered with 200 and stored, by both versions."""

    async def scenario(service: Service) -> tuple[list[str], set[int], list[int]]:
        async with under_load(service.port, tmp_path / "acknowledged.txt", predict_requests(models)) as run:
            switched = []
            for version in islice(cycle("21"), SWITCHES):
                status, _ = await asyncio.to_thread(service.call, "POST", ACTIVATE, {"version": version})
                switched.append(status)
                await run.more()
        return run.acknowledged, set(run.load.statuses), switched

    settings = quick_settings(SERVING__ACTIVE="breast_cancer/1")
    with serving(tmp_path, models=models, settings=settings) as service:
        acknowledged, statuses, switched = asyncio.run(scenario(service))
        service.end(signal.SIGTERM)

    store = tmp_path / "plumbline.db"
    assert switched == [200] * SWITCHES
    assert statuses == {200}
    assert len(acknowledged) > CLIENTS
    assert set(acknowledged) <= stored_in_sqlite(store)
    with closing(sqlite3.connect(store)) as connection:
        assert set(connection.execute("SELECT DISTINCT model_version FROM predictions")) == {("1",), ("2",)}


def test_a_killed_service_comes_back_with_its_choice(tmp_path: Path, models: Path) -> None:
    """SIGKILL right after the answer to an activation: the next start serves the activated version."""
    settings = quick_settings(SERVING__ACTIVE="breast_cancer/1")
    with serving(tmp_path, models=models, settings=settings) as service:
        assert service.call("POST", ACTIVATE, {"version": "2"})[0] == 200
        service.end(signal.SIGKILL)
    with serving(tmp_path, models=models, settings=settings) as service:
        versions = service.call("GET", "/models/breast_cancer")[1]["versions"]

    assert [item["role"] for item in versions] == ["available", "active"]
