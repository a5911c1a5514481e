"""SIGKILL under load: what was acknowledged outlives the process that acknowledged it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.load import outcome_request, predict_requests, stored_in_sqlite, under_load
from tests.support.processes import free_port, launch

KILLS = 20


@pytest.mark.fault
def test_acknowledged_rows_survive_being_killed(tmp_path: Path, example_models: Path) -> None:
    """Killed twenty times under 64 clients, the service loses no prediction and no outcome that it has acknowledged."""
    moments = random.Random(20)
    port = free_port()
    settings = {"OUTCOMES__UNKNOWN": "hold"}

    async def scenario() -> tuple[list[str], list[str]]:
        service = launch(tmp_path, models=example_models, port=port, settings=settings)
        try:
            await asyncio.to_thread(service.wait_ready)
            async with (
                under_load(port, tmp_path / "predicted.txt", predict_requests(example_models), clients=48) as run,
                under_load(port, tmp_path / "reported.txt", outcome_request, clients=16) as reporting,
            ):
                for _ in range(KILLS):
                    await asyncio.gather(run.more(moments.randrange(49, 500)), reporting.more(17))
                    service.process.kill()
                    await asyncio.to_thread(service.process.wait)
                    service = launch(tmp_path, models=example_models, port=port, settings=settings)
                    await asyncio.to_thread(service.wait_ready)
        finally:
            service.process.kill()
            service.process.wait()
        return run.acknowledged, reporting.acknowledged

    predicted, reported = asyncio.run(scenario())

    assert len(predicted) > KILLS * 48
    assert len(reported) > KILLS * 16
    assert set(predicted) - stored_in_sqlite(tmp_path / "plumbline.db") == set()
    assert set(reported) - stored_in_sqlite(tmp_path / "plumbline.db", "outcomes") == set()
