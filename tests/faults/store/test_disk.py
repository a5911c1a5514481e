"""The disk: cut from its power, and full."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.disks import LARGE_BYTES, SMALL_BYTES, LoopDisk, resize, small_folder
from tests.support.load import batch, predict_requests, quick_settings, stored_in_sqlite, under_load
from tests.support.processes import Service, serving

pytestmark = pytest.mark.fault
MAX_BATCHES = 1000
"""Far more than the small disk holds."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    """A disk whose power may be cut."""
    try:
        disk = LoopDisk(tmp_path)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a loop device cannot be mounted here")
    yield disk
    with suppress(subprocess.CalledProcessError):
        disk.unmount()


def test_acknowledged_rows_survive_a_power_loss(tmp_path: Path, example_models: Path, disk: LoopDisk) -> None:
    """When the disk's power goes under 64 clients, no acknowledged row is lost, and nothing more is acknowledged."""

    async def scenario(service: Service) -> tuple[list[str], int, set[int], set[int]]:
        async def refused(times: int) -> set[int]:
            """The statuses of further requests; while they are answered, so are those of the 64 clients."""
            body = batch(example_models, "refused", 1)
            return {(await asyncio.to_thread(service.call, "POST", "/predict", body))[0] for _ in range(times)}

        def cut() -> None:
            with service.stopped():
                disk.cut_power()

        async with under_load(service.port, tmp_path / "acknowledged.txt", predict_requests(example_models)) as run:
            await run.more()
            await asyncio.to_thread(cut)
            after = await refused(10)
            acknowledged = len(run.acknowledged)
            after |= await refused(50)
        return run.acknowledged, acknowledged, set(run.load.statuses), after

    store = f"sqlite:///{disk.mounted / 'plumbline.db'}"
    with serving(tmp_path, models=example_models, store=store, settings=quick_settings()) as service:
        acknowledged, soon_after, statuses, after = asyncio.run(scenario(service))
    disk.unmount()
    disk.mount()

    assert len(acknowledged) == soon_after > 64
    assert statuses <= {200, 503}
    assert after == {503}
    assert set(acknowledged) - stored_in_sqlite(disk.mounted / "plumbline.db") == set()


@pytest.mark.parametrize(("synchronous", "loses"), [("FULL", False), ("NORMAL", True)])
def test_the_power_loss_is_a_real_one(disk: LoopDisk, synchronous: str, loses: bool) -> None:
    """The same cut takes committed rows from a file that does not sync each commit, and none from one that does."""
    file = disk.mounted / "plumbline.db"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("CREATE TABLE predictions (prediction_id TEXT)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.sync()
    for number in range(200):
        connection.execute("INSERT INTO predictions VALUES (?)", (str(number),))
    disk.cut_power()
    with suppress(sqlite3.Error):
        connection.close()
    disk.unmount()
    disk.mount()

    assert (len(stored_in_sqlite(file)) < 200) is loses


def test_a_full_disk_is_a_refusal(tmp_path: Path, example_models: Path) -> None:
    """On a full disk every request is refused with 503 and Retry-After; with room again the process stores again."""
    answers: list[httpx.Response] = []
    with (
        small_folder(tmp_path / "small") as folder,
        serving(
            tmp_path, models=example_models, store=f"sqlite:///{folder / 'plumbline.db'}", settings=quick_settings()
        ) as service,
        httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=DEADLINE_S) as client,
    ):
        resize(folder, service.process.pid, SMALL_BYTES)

        def predict(number: int) -> httpx.Response:
            return client.post("/predict", json=batch(example_models, number))

        while (not answers or answers[-1].status_code == 200) and len(answers) < MAX_BATCHES:
            answers.append(predict(len(answers)))
        refused = [answers.pop(), predict(len(answers) + 1)]
        alive = client.get("/health/live").status_code
        resize(folder, service.process.pid, LARGE_BYTES)
        answers += [predict(len(answers) + number) for number in (2, 3)]
        acknowledged = {row["prediction_id"] for answer in answers for row in answer.json()["predictions"]}
        service.process.kill()
        service.process.wait()
        stored = stored_in_sqlite(Path(shutil.copytree(folder, tmp_path / "copy")) / "plumbline.db")

    assert [(answer.status_code, answer.headers["retry-after"]) for answer in refused] == [(503, "1")] * 2
    assert alive == 200
    assert {answer.status_code for answer in answers} == {200}
    assert acknowledged - stored == set()
