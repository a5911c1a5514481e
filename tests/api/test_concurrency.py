"""Many callers at once: batched as single, each harmed by nobody else, and the ledger adds up in all of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from app.api.dependencies import Services
from app.config.settings import Config
from app.store.queries.predictions import stream
from app.types import Answer, Row
from tests.support.application import ledger, make_config, running, samples, services_of
from tests.support.deadlines import DEADLINE_S
from tests.support.models.tasks import Fitted

POISON = 666.0


@dataclass(frozen=True)
class Service:
    """A running application with the acts that these tests share."""

    services: Services
    client: httpx.AsyncClient
    gate: Event

    async def predict(self, age: float, **options: Any) -> httpx.Response:
        """Ask for one row."""
        features = {"age": age, "income": 1.0, "channel": "web", "member": True}
        return await self.client.post("/predict", json={"features": features, **options})

    async def stored(self) -> list[str]:
        """The ids in the store."""

        def read(connection: Connection) -> list[str]:
            return [row.prediction.prediction_id for row in stream(connection)]

        return await self.services.readers.run(read)

    async def ledger(self) -> dict[str, float]:
        """The ledger as a scrape shows it."""
        return ledger((await self.client.get("/metrics")).text)

    async def failed(self) -> float:
        """The rows that were answered with an error of ours."""
        found = samples((await self.client.get("/metrics")).text)
        counts = [
            count
            for (name, labels), count in found.items()
            if name == "ml_predictions_total" and ("status", "failed") in labels
        ]
        return sum(counts)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the event loop turn until something holds."""
        while not holds():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0)


@asynccontextmanager
async def slow_service(config: Config) -> AsyncIterator[Service]:
    """A service whose model waits for the gate, and raises for a poisoned row."""
    async with running(config) as (app, client):
        services, gate = services_of(app), Event()
        batcher = services.registry.active.batcher
        answer = batcher.call_model

        def predict(rows: Sequence[Row]) -> list[Answer]:
            gate.wait(DEADLINE_S)
            if any(row[0] == POISON for row in rows):
                raise ValueError("s3cret of the model")
            return answer(rows)

        batcher.call_model, batcher.max_inline_rows = predict, 0
        try:
            yield Service(services, client, gate)
        finally:
            gate.set()


@pytest.fixture
def config(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> Callable[..., Config]:
    """Makes a configuration: ``config(server={"deadline": "1s"})``."""
    return lambda **sections: make_config(tmp_path, small_models[0], "mixed", **sections)


def test_batched_answers_are_single_answers(config: Callable[..., Config], fitted: dict[str, Fitted]) -> None:
    """200 callers at once get, to the last bit, what each gets alone, and larger batches than one row were made."""
    rows = fitted["mixed"].rows[:200]

    async def scenario() -> tuple[list[Any], list[Any], float]:
        async with running(config()) as (_, client):
            alone = [(await client.post("/predict", json={"features": row})).json() for row in rows]
            together = await asyncio.gather(*(client.post("/predict", json={"features": row}) for row in rows))
            metrics = (await client.get("/metrics")).text
            calls = next(
                float(line.split()[1]) for line in metrics.splitlines() if line.startswith("ml_batch_rows_count")
            )
            return alone, [answer.json() for answer in together], calls

    alone, together, calls = asyncio.run(scenario())

    assert [answer["probabilities"] for answer in together] == [answer["probabilities"] for answer in alone]
    assert calls < 300


def test_one_id_at_once_is_one_row(config: Callable[..., Config]) -> None:
    """40 callers with one id at once: one row, one answer for all of them."""

    async def scenario() -> tuple[list[httpx.Response], list[str], dict[str, float]]:
        async with slow_service(config()) as service:
            service.gate.set()
            answers = await asyncio.gather(*(service.predict(40, prediction_id="same") for _ in range(40)))
            return answers, await service.stored(), await service.ledger()

    answers, stored, found = asyncio.run(scenario())

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert stored == ["same"]
    assert (found["accepted"], found["missing"]) == (1, 0)


def test_one_id_at_once_with_other_features_is_a_conflict(config: Callable[..., Config]) -> None:
    """Of callers with one id, those that send the features of the first are answered, the others refused."""

    async def scenario() -> tuple[list[int], list[str]]:
        async with slow_service(config()) as service:
            service.gate.set()
            calls = (service.predict(30 + number % 2, prediction_id="same") for number in range(20))
            return [answer.status_code for answer in await asyncio.gather(*calls)], await service.stored()

    statuses, stored = asyncio.run(scenario())

    assert statuses == [200, 409] * 10
    assert stored == ["same"]


def test_a_poisoned_row_fails_alone(config: Callable[..., Config], capsys: pytest.CaptureFixture[str]) -> None:
    """Where the model raises for one row of a batch, that caller gets 500 with an id and no secret.

    The others are answered.
    """

    async def scenario() -> tuple[list[httpx.Response], list[str], dict[str, float]]:
        async with slow_service(config()) as service:
            calls = [asyncio.ensure_future(service.predict(POISON if number == 9 else number)) for number in range(20)]
            await service.until(lambda: service.services.registry.active.batcher.waiting_rows == 20)
            service.gate.set()
            return await asyncio.gather(*calls), await service.stored(), await service.ledger()

    answers, stored, found = asyncio.run(scenario())
    failed = answers.pop(9)

    assert {answer.status_code for answer in answers} == {200}
    assert failed.status_code == 500
    assert "error id" in failed.json()["detail"]
    assert "s3cret" not in failed.text
    assert len(stored) == 19
    assert found["missing"] == 0
    assert failed.json()["detail"].split()[-1] in capsys.readouterr().out


def test_cancelled_callers_harm_nobody(config: Callable[..., Config]) -> None:
    """Callers that leave while their batch computes take nobody with them, and what was accepted is accounted for."""

    async def scenario() -> tuple[list[httpx.Response], list[str], dict[str, float]]:
        async with slow_service(config()) as service:
            calls = [asyncio.ensure_future(service.predict(number, prediction_id=f"c{number}")) for number in range(30)]
            await service.until(lambda: service.services.registry.active.batcher.waiting_rows == 30)
            for call in calls[::3]:
                call.cancel()
            service.gate.set()
            stayed = [call for number, call in enumerate(calls) if number % 3]
            answers = await asyncio.gather(*stayed)
            again = [await service.predict(number, prediction_id=f"c{number}") for number in range(30)]
            return [*answers, *again], await service.stored(), await service.ledger()

    answers, stored, found = asyncio.run(scenario())

    assert {answer.status_code for answer in answers} == {200}
    assert sorted(stored) == sorted(f"c{number}" for number in range(30))
    assert found["missing"] == 0
    assert found["queued"] == 0


def test_a_full_queue_is_503(config: Callable[..., Config]) -> None:
    """Rows beyond ``serving.max_queue_rows`` are refused at once with Retry-After; those that wait are answered."""

    async def scenario() -> tuple[httpx.Response, httpx.Response, list[httpx.Response], dict[str, float]]:
        async with slow_service(config(serving={"max_queue_rows": 10})) as service:
            calls = [asyncio.ensure_future(service.predict(number)) for number in range(10)]
            await service.until(lambda: service.services.registry.active.batcher.waiting_rows == 10)
            refused = await service.predict(1)
            row = {"age": 1, "income": None, "channel": "web", "member": False}
            never = await service.client.post("/predict", json={"instances": [row] * 11})
            service.gate.set()
            return refused, never, await asyncio.gather(*calls), await service.ledger()

    refused, never, answered, found = asyncio.run(scenario())

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert never.status_code == 413
    assert {answer.status_code for answer in answered} == {200}
    assert (found["accepted"], found["stored"], found["missing"]) == (10, 10, 0)


def test_past_the_deadline_is_504(config: Callable[..., Config]) -> None:
    """A caller that waited longer than ``server.deadline`` for the model gets 504 once, and nothing of it is stored."""

    async def scenario() -> tuple[httpx.Response, list[str], dict[str, float], float]:
        async with slow_service(config(server={"deadline": "50ms"})) as service:
            answer = await service.predict(30, prediction_id="late")
            service.gate.set()
            failed = await service.failed()
            return answer, await service.stored(), await service.ledger(), failed

    answer, stored, found, failed = asyncio.run(scenario())

    assert answer.status_code == 504
    assert failed == 1
    assert stored == []
    assert (found["accepted"], found["missing"]) == (0, 0)


def test_a_stuck_store_is_504_and_then_a_replay(config: Callable[..., Config]) -> None:
    """While the writer hangs, a row with an own id is undecided.

    The caller repeats its id and gets the stored answer. On a slow machine its time may be over before its row waits.
    """

    async def scenario() -> tuple[httpx.Response, dict[str, float], httpx.Response, dict[str, float], list[str]]:
        async with slow_service(config(server={"deadline": "1s"})) as service:
            service.gate.set()
            journal, hung, go_on = service.services.journal, Event(), Event()

            def hang(_connection: Connection) -> None:
                hung.set()
                go_on.wait(DEADLINE_S)

            hanging = asyncio.ensure_future(journal.run(hang))
            await asyncio.to_thread(hung.wait)
            waiting: dict[str, float] = {"undecided": 0.0}
            while waiting["undecided"] == 0:
                answer = await service.predict(30, prediction_id="stuck")
                waiting = await service.ledger()
            go_on.set()
            await hanging
            again = await service.predict(30, prediction_id="stuck")
            return answer, waiting, again, await service.ledger(), await service.stored()

    answer, waiting, again, settled, stored = asyncio.run(scenario())

    assert answer.status_code == 504
    assert (waiting["accepted"], waiting["queued"], waiting["missing"]) == (0, 0, 0)
    assert again.status_code == 200
    assert stored == ["stuck"]
    assert (settled["accepted"], settled["stored"], settled["undecided"], settled["missing"]) == (1, 1, 0, 0)


def test_draining_is_503(config: Callable[..., Config]) -> None:
    """Once the journal closes, predictions and outcomes are refused with Retry-After, and the process is not ready."""

    async def scenario() -> list[httpx.Response]:
        async with slow_service(config()) as service:
            service.gate.set()
            await service.services.journal.close()
            outcome = await service.client.post("/outcome", json={"prediction_id": "a", "outcome": "good"})
            return [await service.predict(30), outcome, await service.client.get("/health/ready")]

    answers = asyncio.run(scenario())

    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert all("retry-after" in answer.headers for answer in answers[:2])


def test_every_scrape_adds_up(config: Callable[..., Config]) -> None:
    """A scrape in the midst of traffic shows a ledger without a gap."""

    async def scenario() -> list[float]:
        async with running(config()) as (_, client):
            row = json.dumps({"features": [30, 1.0, "web", True]}).encode()
            headers = {"content-type": "application/json"}
            traffic = [asyncio.ensure_future(client.post("/predict", content=row, headers=headers)) for _ in range(400)]
            scrapes = [ledger((await client.get("/metrics")).text)["missing"] for _ in range(8)]
            await asyncio.gather(*traffic)
            return scrapes

    assert asyncio.run(scenario()) == [0.0] * 8
