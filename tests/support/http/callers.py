"""Callers that come together, in one turn of the event loop, and what is found behind them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any

from prometheus_client import generate_latest
from sqlalchemy import Connection

from app.store.queries.predictions import stream
from app.types import Prediction
from tests.support.application import ledger, samples
from tests.support.connections import Scene, Wire
from tests.support.deadlines import DEADLINE_S
from tests.support.raw_client import Reply, post


@contextmanager
def held(scene: Scene) -> Iterator[None]:
    """While the block runs nothing is committed: the writing thread has something else to do."""
    released = Event()
    holding = asyncio.ensure_future(scene.app.state.services.journal.run(lambda _: released.wait(DEADLINE_S)))
    try:
        yield
    finally:
        released.set()
        holding.add_done_callback(lambda done: done.result())


def body_of(row: Sequence[float]) -> bytes:
    """A body with one row."""
    return json.dumps({"features": row}).encode()


def predict(row: Sequence[float], **more: Any) -> bytes:
    """A request for one prediction."""
    return post(json.dumps({"features": row, **more}).encode())


def outcome(prediction_id: str, truth: object, *headers: bytes) -> bytes:
    """A report of one outcome."""
    return post(json.dumps({"prediction_id": prediction_id, "outcome": truth}).encode(), *headers, target=b"/outcome")


async def send(scene: Scene, requests: Sequence[bytes]) -> list[Wire]:
    """Callers that ask in one turn of the event loop, and what has begun two turns later."""
    wires = [scene.connect() for _ in requests]
    for wire, request in zip(wires, requests, strict=True):
        wire.packet(request)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return wires


async def receive(wires: Sequence[Wire]) -> list[Reply]:
    """One answer for each, after which they leave."""
    found = [(await wire.replies(1))[0] for wire in wires]
    for wire in wires:
        wire.leave()
    return found


async def together(scene: Scene, requests: Sequence[bytes]) -> list[Reply]:
    """The answers to requests that come in one turn of the event loop."""
    return await receive(await send(scene, requests))


def id_of(reply: Reply) -> str:
    """The id of the prediction in an answer."""
    return str(json.loads(reply.body)["prediction_id"])


async def read_from(scene: Scene, query: Any) -> Any:
    """What a query finds in the store."""
    return await scene.app.state.services.readers.run(query)


def stored(scene: Scene) -> dict[str, Prediction]:
    """The stored predictions by id, once everything that was accepted is settled."""

    def by_id(connection: Connection) -> dict[str, Prediction]:
        found = [row.prediction for row in stream(connection)]
        return {prediction.prediction_id: prediction for prediction in found}

    async def settled() -> Any:
        await scene.app.state.services.journal.run(lambda _: None)
        return await read_from(scene, by_id)

    found: dict[str, Prediction] = scene.run(settled())
    return found


def samples_of(scene: Scene) -> dict[Any, float]:
    """Every sample of the metrics."""
    return samples(generate_latest(scene.app.state.services.series).decode())


def sample(scene: Scene, name: str, labels: Any = ()) -> float:
    """One sample of the metrics."""
    return samples_of(scene)[name, labels]


def counts(scene: Scene) -> dict[str, float]:
    """Rows by what became of them, alone or in bulk, without zeros."""
    found: Counter[str] = Counter()
    for (name, labels), value in samples_of(scene).items():
        if name == "ml_predictions_total" and value:
            found[dict(labels)["status"]] += round(value)
    return dict(found)


def assert_nothing_is_left(scene: Scene) -> None:
    """The ledger adds up, and nothing is queued or under way."""
    found = ledger(generate_latest(scene.app.state.services.series).decode())
    assert found["missing"] == found["queued"] == 0
    assert sample(scene, "ml_requests_in_progress") == 0
