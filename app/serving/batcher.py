"""The batcher: many groups of rows, one call of the model.

A model that answers in microseconds runs in the event loop, which is cheaper than handing over. A slower one runs in
its own thread. It takes all rows that are waiting as soon as it is free, so that the next batch gathers while this one
computes: no timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

from prometheus_client import Histogram

from app.errors import FieldError, Invalid, ModelFailed, NoAnswer, RequestError, TooLarge, Unavailable
from app.types import NO_STAGES, Answer, Row, Stages

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


@dataclass(slots=True, eq=False)
class Waiting:
    """One caller's rows.

    ``future`` takes the answers or the failure, and is done once the caller has left.
    """

    rows: Sequence[Row]
    future: asyncio.Future[list[Answer]]
    stages: Sequence[Stages]


BatchResult: TypeAlias = list[tuple[Waiting, list[Answer] | Exception]]


class Batcher:
    """In front of one loaded model. Limits count rows, not requests.

    Attributes:
        call_model: answers rows; it may raise whatever the model raises.
        max_inline_rows: the largest call that may run in the event loop; 0 for a slow model.
        waiting_rows: rows that wait for the model's thread, or are in it.
    """

    def __init__(
        self, predict: PredictRows, cost: Cost, batch_rows: Histogram, *, max_batch_rows: int, max_queue_rows: int
    ) -> None:
        self.call_model = predict
        self._batch_rows = batch_rows
        self._max_batch_rows = max_batch_rows
        self.max_inline_rows = min(cost.most_rows(INLINE_SECONDS), max_batch_rows)
        self._max_queue_rows = max_queue_rows
        self._waiting: deque[Waiting] = deque()
        self.waiting_rows = 0
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plumbline-model")

    @property
    def max_group_rows(self) -> int:
        """The largest number of rows that are best asked for at once.

        It is what the event loop can bear, else what one call takes.
        """
        return min(self.max_inline_rows or self._max_batch_rows, self._max_queue_rows)

    async def predict(self, rows: Sequence[Row], stages: Sequence[Stages] = NO_STAGES) -> list[Answer]:
        """The model's answers to one caller's rows, in order; ``stages`` take the time of the call.

        Where the model raises, it is asked again for each caller of the batch, so that only the guilty one fails.

        Raises:
            ModelFailed: the model raises on these rows.
            RequestError: the model refuses these rows.
            TooLarge: more rows than the queue can ever hold.
            Unavailable: the queue is full.
        """
        if len(rows) > self._max_queue_rows:
            raise TooLarge(f"{len(rows)} rows in one request; serving.max_queue_rows is {self._max_queue_rows}")
        if self.waiting_rows + len(rows) > self._max_queue_rows:
            raise Unavailable("too many rows are waiting for the model")
        if not self._busy and len(rows) <= self.max_inline_rows:
            self._batch_rows.observe(len(rows))
            began = perf_counter()
            try:
                return self._call(rows)
            except BaseException as error:
                raise _failure(error) from error
            finally:
                _note_call(stages, began)
        loop = asyncio.get_running_loop()
        waiting = Waiting(rows, loop.create_future(), stages)
        self._waiting.append(waiting)
        self.waiting_rows += len(rows)
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next, loop)  # behind the callers that are ready by now
        return await waiting.future

    def close(self) -> None:
        """Let the model's thread end after its call."""
        self._thread.shutdown(wait=False)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
            return
        self._batch_rows.observe(sum(len(waiting.rows) for waiting in batch))

        def done(future: Future[BatchResult]) -> None:
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
                self.waiting_rows -= len(waiting.rows)
                continue
            rows += len(waiting.rows)
            batch.append(waiting)
        return batch

    def _run(self, batch: list[Waiting]) -> BatchResult:
        """Call the model; where it fails on the batch, call it for each caller."""
        rows = [row for waiting in batch for row in waiting.rows]
        began = perf_counter()
        try:
            answers = iter(self._call(rows))
            return [(waiting, [next(answers) for _ in waiting.rows]) for waiting in batch]
        except BaseException as error:  # noqa: BLE001 - as above: or nobody would be answered again
            if len(batch) > 1:
                return [answered for waiting in batch for answered in self._run([waiting])]
            return [(batch[0], _failure(error))]
        finally:
            for waiting in batch:
                _note_call(waiting.stages, began)

    def _call(self, rows: Sequence[Row]) -> list[Answer]:
        answers: list[Answer] = []
        for start in range(0, len(rows), self._max_batch_rows):
            part = rows[start : start + self._max_batch_rows]
            answered = self.call_model(part)
            if len(answered) != len(part):
                raise ValueError(f"the model gave {len(answered)} answers to {len(part)} rows")
            answers += answered
        return answers

    def _deliver(self, answered: BatchResult) -> None:
        for waiting, result in answered:
            self.waiting_rows -= len(waiting.rows)
            if waiting.future.done():
                continue
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)


def _note_call(stages: Sequence[Stages], began: float) -> None:
    for each in stages:
        each.model = (began, perf_counter())


def _failure(error: BaseException) -> Exception:
    """The refusal of rows by the model, or what it raised as the cause of a ModelFailed."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, NoAnswer):
        return Invalid([FieldError("features", "values to which the model has an answer", "the answer is no number")])
    failure = ModelFailed("the model failed")
    failure.__cause__ = error
    return failure
