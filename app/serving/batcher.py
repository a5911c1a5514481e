"""The batcher: many callers, one call of the model.

It takes all rows that are waiting as soon as the model is free, so that the next batch gathers while this one computes:
no timer. A model that answers in microseconds runs in the event loop, which is cheaper than handing over; a slower one
runs in its own thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from prometheus_client import Histogram

from app.errors import ModelFailed, TooLarge, Unavailable
from app.types import Answer, Row, new_id

INLINE_SECONDS = 0.002
"""Longest call that may run in the event loop."""
PredictRows: TypeAlias = Callable[[Sequence[Row]], list[Answer]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Hold the cost of a model call: seconds for the call and for each row.

    It is measured at warm-up.
    """

    call: float
    row: float

    def most_rows(self, seconds: float) -> int:
        """The largest call that fits into so many seconds."""
        return max(0, int((seconds - self.call) / max(self.row, 1e-9)))


Deliver: TypeAlias = Callable[[list[Answer]], None]
"""Takes the model's answers, in the event loop."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One caller's rows.

    Attributes:
        future: what the caller waits for; once it is done the caller is gone, and a failure goes to it.
    """

    rows: Sequence[Row]
    future: asyncio.Future[Any]
    deliver: Deliver


Settled: TypeAlias = list[tuple[Waiting, list[Answer] | Exception]]


class Batcher:
    """In front of one loaded model. Limits count rows, not requests."""

    def __init__(
        self, predict: PredictRows, cost: Cost, batch_rows: Histogram, *, max_batch_rows: int, max_queue_rows: int
    ) -> None:
        self._predict = predict
        self._batch_rows = batch_rows
        self._max_batch_rows = max_batch_rows
        self._most_inline = cost.most_rows(INLINE_SECONDS)
        self._max_queue_rows = max_queue_rows
        self._waiting: deque[Waiting] = deque()
        self._rows = 0
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plumbline-model")
        self._log = structlog.get_logger("batcher")

    async def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """The model's answers to one caller's rows, in order; see :meth:`submit`."""
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self.submit(rows, future, future.set_result)
        return await future

    def submit(self, rows: Sequence[Row], future: asyncio.Future[Any], deliver: Deliver) -> None:
        """Submit one caller's rows.

        ``deliver`` takes the answers, in order, or ``future`` takes the failure.

        The failure is a ModelFailed when the model raises on these rows; other callers' rows in the batch are answered
        all the same.

        Raises:
            TooLarge: more rows than the queue can ever hold.
            Unavailable: the queue is full.
        """
        if len(rows) > self._max_queue_rows:
            raise TooLarge(f"{len(rows)} rows in one request; serving.max_queue_rows is {self._max_queue_rows}")
        if self._rows + len(rows) > self._max_queue_rows:
            raise Unavailable("too many rows are waiting for the model")
        self._waiting.append(Waiting(rows, future, deliver))
        self._rows += len(rows)
        if not self._busy:
            self._busy = True
            loop = future.get_loop()
            loop.call_soon(self._gather, loop, self._rows)

    @property
    def most_at_once(self) -> int:
        """Give the number of rows that :meth:`answer_at_once` may take now.

        More rows would hold up the event loop.
        """
        return 0 if self._busy else min(self._most_inline, self._max_batch_rows, self._max_queue_rows)

    def answer_at_once(self, rows: Sequence[Row]) -> list[Answer]:
        """The model's answers, in order.

        Raises:
            ModelFailed: the model raises on one of the rows.
        """
        self._batch_rows.observe(len(rows))
        try:
            return self._call(rows)
        except BaseException as error:
            raise ModelFailed("the model failed on some of the rows") from error

    def close(self) -> None:
        """Let the model's thread end after its call."""
        self._thread.shutdown(wait=False)

    def _gather(self, loop: asyncio.AbstractEventLoop, rows: int) -> None:
        """Wait for the callers that are ready by now.

        The wait ends when a turn of the loop brings nobody, or when a batch is full.
        """
        if rows < self._rows < self._max_batch_rows:
            loop.call_soon(self._gather, loop, self._rows)
        else:
            self._next(loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
            return
        rows = sum(len(waiting.rows) for waiting in batch)
        self._batch_rows.observe(rows)
        if rows <= self._most_inline:
            self._deliver(self._run(batch))
            loop.call_soon(self._gather, loop, 0)
            return

        def done(future: Future[Settled]) -> None:
            self._deliver(future.result())
            self._next(loop)

        running = self._thread.submit(self._run, batch)
        running.add_done_callback(lambda future: loop.call_soon_threadsafe(done, future))

    def _take(self) -> list[Waiting]:
        """Whole callers up to the row limit, at least one; those who have left are passed over."""
        batch: list[Waiting] = []
        rows = 0
        while self._waiting and (not batch or rows + len(self._waiting[0].rows) <= self._max_batch_rows):
            waiting = self._waiting.popleft()
            if waiting.future.done():
                self._rows -= len(waiting.rows)
                continue
            rows += len(waiting.rows)
            batch.append(waiting)
        return batch

    def _run(self, batch: list[Waiting]) -> Settled:
        """Call the model.

        Where it fails on the batch, call it for each caller singly, so that only the guilty fails.
        """
        rows = [row for waiting in batch for row in waiting.rows]
        try:
            answers = iter(self._call(rows))
            return [(waiting, [next(answers) for _ in waiting.rows]) for waiting in batch]
        except BaseException as error:  # noqa: BLE001 - also a SystemExit from foreign code, or nobody would be answered again
            if len(batch) > 1:
                return [settled for waiting in batch for settled in self._run([waiting])]
            error_id = new_id()
            self._log.exception("model_failed", error_id=error_id, rows=len(rows), exc_info=error)
            return [(batch[0], ModelFailed(f"the model failed; error id {error_id}"))]

    def _call(self, rows: Sequence[Row]) -> list[Answer]:
        answers: list[Answer] = []
        for start in range(0, len(rows), self._max_batch_rows):
            part = rows[start : start + self._max_batch_rows]
            answered = self._predict(part)
            if len(answered) != len(part):
                raise ValueError(f"the model gave {len(answered)} answers to {len(part)} rows")
            answers += answered
        return answers

    def _deliver(self, settled: Settled) -> None:
        for waiting, result in settled:
            self._rows -= len(waiting.rows)
            if waiting.future.done():
                continue
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
                continue
            try:
                waiting.deliver(result)
            except Exception as error:  # noqa: BLE001 - what becomes of one caller's answers is that caller's affair
                waiting.future.set_exception(error)
