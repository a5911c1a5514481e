"""Send samples to a running service and, later, their outcomes; count what becomes of each."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from app.commands.simulation.drift import Sample
from app.types import Json

OUTCOMES_A_REQUEST = 500
IDLE_S = 0.02
"""How often the sender of outcomes looks whether one is due."""
NO_ANSWER = "no answer"


@dataclass(slots=True)
class Tally:
    """Hold what became of the rows and outcomes sent.

    Refused rows are counted by HTTP status; latencies are seconds a request.
    """

    sent: int = 0
    stored: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    def latency(self, share: float) -> float:
        """The latency in milliseconds that ``share`` of the requests did not exceed; 0 without any.

        >>> Tally(latencies=[0.003, 0.001, 0.002]).latency(0.5)
        2.0
        """
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1e3 if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Hold the pace of the traffic.

    Attributes:
        rate: rows a second; 0 sends as fast as answers come.
        batch: rows a request.
        concurrency: requests at a time.
        label_delay: seconds between an answer and its outcome.
    """

    rate: float = 0.0
    batch: int = 1
    concurrency: int = 8
    label_delay: float = 0.0


class Traffic:
    """One run against one service; ids start with ``run``, so that no two runs meet."""

    def __init__(self, client: httpx.AsyncClient, pace: Pace, run: str, labelled: Callable[[], bool]) -> None:
        self.tally = Tally()
        self._client = client
        self._pace = pace
        self._run = run
        self._labelled = labelled
        self._due: deque[tuple[float, Json]] = deque()

    async def send(self, samples: Iterable[Sample], advance: Callable[[int], None]) -> None:
        """Send every sample and, when due, its outcome.

        ``advance`` is called with the rows of each answer.
        """
        batches = enumerate(_chunks(samples, self._pace.batch))
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            workers = [
                group.create_task(self._work(batches, started, advance), name=f"sender {number}")
                for number in range(self._pace.concurrency)
            ]
            group.create_task(self._send_outcomes(workers), name="outcomes")

    async def _work(
        self, batches: Iterator[tuple[int, list[Sample]]], started: float, advance: Callable[[int], None]
    ) -> None:
        for number, batch in batches:
            if self._pace.rate:
                await asyncio.sleep(started + number * self._pace.batch / self._pace.rate - time.monotonic())
            await self._predict(number * self._pace.batch, batch)
            advance(len(batch))

    async def _predict(self, first: int, batch: list[Sample]) -> None:
        ids = [f"{self._run}-{row}" for row in range(first, first + len(batch))]
        body: Json = {"instances": [sample.features for sample in batch], "prediction_ids": ids}
        if any(sample.context for sample in batch):
            body["contexts"] = [sample.context for sample in batch]
        if self._pace.batch == 1:
            body = {"features": batch[0].features, "prediction_id": ids[0]}
            body |= {"context": batch[0].context} if batch[0].context else {}
        self.tally.sent += len(batch)
        started = time.perf_counter()
        status, _ = await call(self._client, "POST", "/predict", body)
        if status != HTTPStatus.OK:
            self.tally.refused[str(status or NO_ANSWER)] += len(batch)
            return
        self.tally.latencies.append(time.perf_counter() - started)
        self.tally.stored += len(batch)
        due = time.monotonic() + self._pace.label_delay
        for prediction_id, sample in zip(ids, batch, strict=True):
            if sample.outcome is not None and self._labelled():
                value = {} if sample.value is None else {"value": sample.value}
                self._due.append((due, {"prediction_id": prediction_id, "outcome": sample.outcome} | value))

    async def _send_outcomes(self, workers: list[asyncio.Task[None]]) -> None:
        """Send all outcomes that are due together; while they travel, the next gather."""
        while self._due or not all(worker.done() for worker in workers):
            ready: list[Json] = []
            while self._due and self._due[0][0] <= time.monotonic() and len(ready) < OUTCOMES_A_REQUEST:
                ready.append(self._due.popleft()[1])
            if not ready:
                await asyncio.sleep(IDLE_S)
                continue
            status, answer = await call(self._client, "POST", "/outcome", {"outcomes": ready})
            counts = answer["counts"] if status == HTTPStatus.OK else {str(status or NO_ANSWER): len(ready)}
            self.tally.outcomes.update(counts)


async def call(client: httpx.AsyncClient, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
    """Status and decoded body of one request; (0, None) when no answer came."""
    try:
        answer = await client.request(method, path, json=body)
    except httpx.TransportError:
        return 0, None
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, None


def _chunks(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    remaining = iter(samples)
    while chunk := list(itertools.islice(remaining, size)):
        yield chunk
