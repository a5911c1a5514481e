"""SIGTERM: what was begun is finished, then the process ends well."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.load.driver import read_answer
from tests.support.deadlines import DEADLINE_S
from tests.support.load import CLIENTS, numbered, predict_requests, stored_in_sqlite, under_load
from tests.support.processes import Service, serving

pytestmark = pytest.mark.fault


async def listener_closed(service: Service) -> None:
    """Wait until the port refuses new connections, or resets the last one that it had not accepted."""
    with suppress(ConnectionRefusedError, ConnectionResetError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", service.port)
            writer.close()
            await writer.wait_closed()


async def finish_begun_requests(service: Service, models: Path, ids: list[str]) -> list[int]:
    """Send half of every request, SIGTERM, and the other halves once the port is closed; give the statuses."""
    build = predict_requests(models)
    connections = [await asyncio.open_connection("127.0.0.1", service.port) for _ in ids]
    for (_, writer), identity in zip(connections, ids, strict=True):
        request = build(identity)
        writer.write(request[:-100])
        await writer.drain()
    # The service reads its sockets in turn: once it answers a later connection twice, it has the halves.
    for _ in range(2):
        await asyncio.to_thread(service.call, "GET", "/health/live")
    service.process.send_signal(signal.SIGTERM)
    await listener_closed(service)
    statuses = []
    for (reader, writer), identity in zip(connections, ids, strict=True):
        writer.write(build(identity)[-100:])
        statuses.append(await read_answer(reader))
        writer.close()
        await writer.wait_closed()
    return statuses


def test_begun_requests_are_answered(tmp_path: Path, example_models: Path) -> None:
    """Requests half received when SIGTERM comes are answered with 200 and stored; then the process exits with 0."""
    names = numbered("begun")
    ids = [next(names) for _ in range(CLIENTS)]
    patient = {"SERVER__RECEIVE_TIMEOUT": "1h", "SERVER__DRAIN_TIMEOUT": "1h"}
    with serving(tmp_path, models=example_models, settings=patient) as service:
        statuses = asyncio.run(finish_begun_requests(service, example_models, ids))
        code = service.process.wait(timeout=DEADLINE_S)

    assert statuses == [200] * CLIENTS
    assert code == 0
    assert set(ids) <= stored_in_sqlite(tmp_path / "plumbline.db")


def test_stopping_under_load_is_clean(tmp_path: Path, example_models: Path) -> None:
    """Under 64 clients, SIGTERM causes no 500 and no exit code but 0, and every acknowledged row is stored."""

    async def scenario(service: Service) -> tuple[list[str], set[int], int]:
        async with under_load(service.port, tmp_path / "acknowledged.txt", predict_requests(example_models)) as run:
            await run.more()
            code = await asyncio.to_thread(service.end, signal.SIGTERM)
        return run.acknowledged, set(run.load.statuses), code

    with serving(tmp_path, models=example_models) as service:
        acknowledged, statuses, code = asyncio.run(scenario(service))

    assert code == 0
    assert statuses <= {0, 200, 503}
    assert len(acknowledged) > CLIENTS
    assert set(acknowledged) - stored_in_sqlite(tmp_path / "plumbline.db") == set()
