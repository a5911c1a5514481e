"""Shadow versions answer the rows of the active version again, behind its answers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import TypeAlias

import structlog
from prometheus_client import Counter

from app.background import AT_ONCE, Child, PeriodicTask, stand_back
from app.config.settings import Serving
from app.errors import Unavailable, describe_error
from app.metrics import ServingMetrics
from app.serving.bundle.reader import read_bundle
from app.serving.registry import Challenger, Model, Registry, mismatch
from app.store.journal.journal import Journal
from app.store.queries.labelled import ShadowAnswer, insert_shadow_answers
from app.types import Answer, ModelSchema, Prediction, Row

BATCH_ROWS = 128
"""Rows in one call and in one transaction; a caller's row may have to wait behind it."""
GATHER_S = 0.5
"""How long rows wait until they are a batch; no caller waits for their answers."""
MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 300.0
"""The pause after a failure; each further failure doubles it, since a load is expensive."""


class Shadow:
    """Answers rows with a shadow version and stores the answers.

    Rows that come faster than it answers are dropped and counted.
    """

    def __init__(
        self, challenger: Challenger, settings: Serving, journal: Journal, rows: Mapping[str, Counter]
    ) -> None:
        self.schema = challenger.schema
        self._journal = journal
        self._rows = rows
        self._max_rows = settings.max_queue_rows
        self._process = ShadowProcess(challenger.schema.version, challenger.folder, settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plumbline-shadow")
        self._waiting: deque[Prediction] = deque()
        self._began = False
        self._gathering = False
        self._pause_s = 0.0
        self._failing = False
        self._stopping = False
        self._log = structlog.get_logger("shadow").bind(version=challenger.schema.version)
        self.task = PeriodicTask("shadow", self.turn, interval_s=GATHER_S, store_away="wait", log=self._log)

    def offer(self, rows: Sequence[Prediction]) -> None:
        """Take rows that have been answered and stored."""
        if self._stopping or len(self._waiting) + len(rows) > self._max_rows:
            self._rows["dropped"].inc(len(rows))
            return
        self._waiting.extend(rows)
        if self._gathering and len(self._waiting) >= BATCH_ROWS:
            self.task.wake()

    async def stop(self, seconds: float) -> None:
        """Store what waits, as far as the time allows; the rest is dropped and counted."""
        self._stopping = True
        end = asyncio.get_running_loop().time() + seconds
        await self.task.stop(grace_s=seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while self._waiting and not self._pause_s:
                    await self.turn()
        self._process.kill()
        await asyncio.to_thread(self._thread.shutdown)
        self._process.close()
        self._rows["dropped"].inc(len(self._waiting))

    async def turn(self) -> float:
        """Answer and store a batch, if rows wait; the seconds until the next turn.

        The first turn takes no rows and loads the version. New rows do not end the pause after a failure.
        """
        self._gathering = False
        batch = list(islice(self._waiting, BATCH_ROWS)) if self._began else []
        is_first, self._began = not self._began, True
        if (batch or is_first) and await self._process_batch(batch):
            for _ in batch:
                self._waiting.popleft()
        if self._pause_s:
            return self._pause_s
        self._gathering = True
        return AT_ONCE if len(self._waiting) >= BATCH_ROWS else GATHER_S

    async def _process_batch(self, batch: Sequence[Prediction]) -> bool:
        """Answer and store a batch.

        False means: try again. The store was away, and the shadow is not to blame.
        """
        try:
            stored, reason = await self._repeat(batch)
        except Unavailable as error:
            self._pause_s = MIN_PAUSE_S
            self._report(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - a failure of a shadow is counted and disturbs no caller
            self._rows["failed"].inc(len(batch))
            self._pause_s = min(max(MIN_PAUSE_S, 2 * self._pause_s), MAX_PAUSE_S)
            self._report(describe_error(error))
            return True
        self._pause_s = 0.0
        self._rows["stored"].inc(stored)
        self._rows["failed"].inc(len(batch) - stored)
        self._report(reason)
        return True

    async def _repeat(self, batch: Sequence[Prediction]) -> tuple[int, str | None]:
        """Answer rows and store the answers.

        Returns the number stored, and the reason for a row without an answer.
        """
        rows: list[Row] = [row.features for row in batch]
        started = time.perf_counter_ns()
        answered = await asyncio.get_running_loop().run_in_executor(self._thread, self._process.predict, rows)
        latency_us = (time.perf_counter_ns() - started) // 1000 // max(1, len(batch))
        answers = [
            ShadowAnswer(row, answer, latency_us)
            for row, answer in zip(batch, answered, strict=True)
            if not isinstance(answer, str)
        ]
        if answers:
            await self._journal.run(partial(insert_shadow_answers, version=self.schema.version, answers=answers))
        return len(answers), next((answer for answer in answered if isinstance(answer, str)), None)

    def _report(self, reason: str | None) -> None:
        """Log the first failure and the recovery; the metrics count the rows between."""
        if reason is not None and not self._failing:
            self._log.error("shadow_failed", reason=reason)
        elif reason is None and self._failing:
            self._log.warning("shadow_recovered")
        self._failing = reason is not None


STOP_S = 5.0
"""How long the end of the service may wait for shadows."""


class Shadows:
    """Offers the rows of the active version to every shadow with the same features."""

    def __init__(self, registry: Registry, settings: Serving, journal: Journal, metrics: ServingMetrics) -> None:
        self._registry = registry
        self._shadows = [
            Shadow(challenger, settings, journal, metrics.for_shadow(challenger.schema))
            for challenger in registry.challengers
        ]
        self._champion: Model | None = None
        self._fitting: list[Shadow] = []
        self._log = structlog.get_logger("shadow")

    @property
    def tasks(self) -> list[PeriodicTask]:
        """The task of each shadow."""
        return [shadow.task for shadow in self._shadows]

    def start(self) -> None:
        """Start all; each loads its version in a process of its own."""
        for task in self.tasks:
            task.start()

    def offer(self, model: Model, rows: Sequence[Prediction]) -> None:
        """Take rows that a version has answered; shadows answer only those of the active version."""
        if model is not self._registry.active:
            return
        if model is not self._champion:
            self._champion, self._fitting = model, self._fit(model.schema)
        for shadow in self._fitting:
            shadow.offer(rows)

    async def stop(self) -> None:
        """Store what waits, as far as the time allows."""
        await asyncio.gather(*(shadow.stop(STOP_S) for shadow in self._shadows))

    def _fit(self, champion: ModelSchema) -> list[Shadow]:
        """The shadows of a version: not itself, and none with other features, which is logged."""
        others = [shadow for shadow in self._shadows if shadow.schema.version != champion.version]
        reasons = {shadow.schema.version: mismatch(shadow.schema, champion) for shadow in others}
        for version, reason in reasons.items():
            if reason:
                self._log.error("shadow_sits_out", version=version, champion=champion.version, reason=reason)
        return [shadow for shadow in others if not reasons[shadow.schema.version]]


NICENESS = 10
MAX_LOAD_S = 300.0
MAX_CALL_S = 60.0
"""On a busy machine a shadow waits for its turn."""
REASON = 300
"""Characters of a reason that are kept."""
Answered: TypeAlias = Answer | str
"""An answer, or the reason why there is none."""


class ShadowRefused(Exception):
    """The bundle cannot be loaded, or cannot serve."""


class ShadowProcess:
    """The parent's side; call it from one thread."""

    def __init__(self, version: str, folder: Path, settings: Serving, *, longest_call_s: float = MAX_CALL_S) -> None:
        self.longest_call_s = longest_call_s
        self._child = Child(f"plumbline-shadow-{version}", serve_answers, folder, settings)

    def predict(self, rows: Sequence[Row]) -> list[Answered]:
        """An answer to each row, or the reason why there is none.

        Raises:
            ShadowRefused: the version does not load.
            ChildFailed: the process died or hung; the next call begins with a new one.
        """
        if self._child.process is None:
            self._ask((), MAX_LOAD_S)
        return self._ask(rows, self.longest_call_s)

    def kill(self) -> None:
        """End the process, also in the midst of a call."""
        self._child.kill()

    def close(self) -> None:
        """Give the process up; only where nobody calls."""
        self._child.end()

    def _ask(self, rows: Sequence[Row], seconds: float) -> list[Answered]:
        answered: list[Answered] | str = self._child.ask(rows, seconds)
        if isinstance(answered, str):
            self._child.end()
            raise ShadowRefused(answered)
        return answered


def serve_answers(pipe: Pipe, folder: Path, settings: Serving) -> None:
    """The child's side: load the version, then answer rows until the pipe ends."""
    stand_back(NICENESS)
    refusal, predict = None, None
    try:
        predict = read_bundle(
            folder,
            allow_pickle=settings.allow_pickle,
            trusted_types=settings.trusted_types,
            runtime=settings.runtime,
        ).estimator.predict
    except Exception as error:  # noqa: BLE001 - whatever loading foreign code raises is the reason why there is no shadow
        refusal = _reason(error)
    while True:
        try:
            rows: Sequence[Row] = pipe.recv()
        except EOFError:
            return
        pipe.send(refusal if predict is None else answer(predict, rows, settings.max_batch_rows))


def answer(predict: Callable[[Sequence[Row]], list[Answer]], rows: Sequence[Row], most: int) -> list[Answered]:
    """Answer each row.

    Where a call fails, its rows are tried singly, so that only the guilty row has no answer.
    """
    answered: list[Answered] = []
    for start in range(0, len(rows), most):
        part = rows[start : start + most]
        try:
            found = predict(part)
            if len(found) != len(part):
                raise ValueError(f"the model gave {len(found)} answers to {len(part)} rows")
        except Exception as error:  # noqa: BLE001 - as above
            single = len(part) == 1
            answered += [_reason(error)] if single else [each for row in part for each in answer(predict, [row], 1)]
        else:
            answered += found
    return answered


def _reason(error: Exception) -> str:
    return describe_error(error)[:REASON]
