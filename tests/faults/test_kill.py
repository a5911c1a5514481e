"""SIGKILL under load: an acknowledged prediction outlives the process that acknowledged it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults.clients import stored_in_sqlite, under_load
from tests.servers import free_port, launch

KILLS = 20
RESTART_SECONDS = 5.0


@pytest.mark.fault
def test_acknowledged_rows_survive_being_killed(tmp_path: Path, example_models: Path) -> None:
    """Killed twenty times under 64 clients, the service loses no acknowledged row and is back within 5 s each time."""
    moments = random.Random(20)
    port = free_port()

    async def scenario() -> tuple[list[str], list[float]]:
        restarts = []
        service = launch(tmp_path, models=example_models, port=port)
        try:
            await asyncio.to_thread(service.wait_ready)
            async with under_load(port, example_models, tmp_path / "acknowledged.txt") as run:
                for _ in range(KILLS):
                    await asyncio.sleep(moments.uniform(0.05, 0.6))
                    service.process.kill()
                    await asyncio.to_thread(service.process.wait)
                    service = launch(tmp_path, models=example_models, port=port)
                    restarts.append(await asyncio.to_thread(service.wait_ready))
        finally:
            service.process.kill()
            service.process.wait()
        return run.acknowledged, restarts

    acknowledged, restarts = asyncio.run(scenario())
    stored = stored_in_sqlite(tmp_path / "plumbline.db")

    assert len(acknowledged) > KILLS * 64
    assert set(acknowledged) - stored == set()
    assert max(restarts) < RESTART_SECONDS
