"""Shadow versions answer the same rows beside the active one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice

import structlog
from prometheus_client import Counter

from app.config.settings import Serving
from app.errors import Unavailable
from app.metrics import ServingMetrics
from app.serving.model import Model
from app.serving.registry import Challenger, Registry, mismatch
from app.serving.shadow_process import ShadowProcess
from app.store.journal.journal import Journal
from app.store.queries.shadow_predictions import ShadowAnswer, insert
from app.types import ModelSchema, Prediction, Row

BATCH_ROWS = 128
"""Rows in one call and in one transaction, behind which a caller's row may have to wait."""
GATHER_S = 0.5
"""How long rows wait for others: nobody waits for them."""
SHORTEST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
"""Rests after a failure; each failure in a row doubles it, since a load costs seconds of a processor."""


class Shadow:
    """Rows in, answers stored; rows that come faster than it answers are dropped and counted."""

    def __init__(
        self, challenger: Challenger, settings: Serving, journal: Journal, rows: Mapping[str, Counter]
    ) -> None:
        self.schema = challenger.schema
        self._journal = journal
        self._rows = rows
        self._most = settings.max_queue_rows
        self._process = ShadowProcess(challenger.schema.version, challenger.folder, settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plumbline-shadow")
        self._waiting: deque[Prediction] = deque()
        self._wake = asyncio.Event()
        self._pause_s = 0.0
        self._troubled = False
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("shadow").bind(version=challenger.schema.version)

    def start(self) -> None:
        """Load the version and begin."""
        self._task = asyncio.create_task(self._run(), name="plumbline-shadow")

    def offer(self, rows: Sequence[Prediction]) -> None:
        """Take rows that have been answered and stored."""
        if self._stopping.is_set() or len(self._waiting) + len(rows) > self._most:
            self._rows["dropped"].inc(len(rows))
            return
        self._waiting.extend(rows)
        if len(self._waiting) >= BATCH_ROWS:
            self._wake.set()

    async def stop(self, seconds: float) -> None:
        """Store what waits, as far as the time allows; the rest is dropped and counted."""
        self._stopping.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()
            await asyncio.wait([self._task])
        self._process.kill()
        await asyncio.to_thread(self._thread.shutdown)
        self._process.close()
        self._rows["dropped"].inc(len(self._waiting))

    async def _run(self) -> None:
        await self._turn([])
        while not self._stopping.is_set() or (self._waiting and not self._pause_s):
            await self._gather()
            batch = list(islice(self._waiting, BATCH_ROWS))
            if batch and await self._turn(batch):
                for _ in batch:
                    self._waiting.popleft()

    async def _gather(self) -> None:
        """Wait for a batch, but not for long; after a failure, give the machine a rest instead."""
        if self._pause_s:
            await _wait(self._stopping, self._pause_s)
        elif len(self._waiting) < BATCH_ROWS and not self._stopping.is_set():
            self._wake.clear()
            await _wait(self._wake, GATHER_S)

    async def _turn(self, batch: Sequence[Prediction]) -> bool:
        """Answer and store a batch; False: try it again, since the store was away and not the shadow to blame."""
        try:
            stored, reason = await self._repeat(batch)
        except Unavailable as error:
            self._pause_s = SHORTEST_PAUSE_S
            self._note(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - a shadow's failure, whatever it is, is counted and touches nobody
            self._rows["failed"].inc(len(batch))
            self._pause_s = min(max(SHORTEST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            self._note(str(error))
            return True
        self._pause_s = 0.0
        self._rows["stored"].inc(stored)
        self._rows["failed"].inc(len(batch) - stored)
        self._note(reason)
        return True

    async def _repeat(self, batch: Sequence[Prediction]) -> tuple[int, str | None]:
        """The number of answers stored, and why others were not."""
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
            await self._journal.run(partial(insert, version=self.schema.version, answers=answers))
        return len(answers), next((answer for answer in answered if isinstance(answer, str)), None)

    def _note(self, reason: str | None) -> None:
        """Say once that it fails and once that it does no longer; how many rows it costs stands in the metrics."""
        if reason is not None and not self._troubled:
            self._log.error("shadow_failed", reason=reason)
        elif reason is None and self._troubled:
            self._log.warning("shadow_recovered")
        self._troubled = reason is not None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


STOP_S = 5.0
"""How long the end of the service may wait for shadows."""


class Shadows:
    """Hands what the active version has answered to every shadow that takes such rows."""

    def __init__(self, registry: Registry, settings: Serving, journal: Journal, metrics: ServingMetrics) -> None:
        self._registry = registry
        self._shadows = [
            Shadow(challenger, settings, journal, metrics.for_shadow(challenger.schema))
            for challenger in registry.challengers
        ]
        self._champion: Model | None = None
        self._fitting: list[Shadow] = []
        self._log = structlog.get_logger("shadow")

    def start(self) -> None:
        """Load the shadows, each in its own time."""
        for shadow in self._shadows:
            shadow.start()

    def offer(self, model: Model, rows: Sequence[Prediction]) -> None:
        """Take rows that a version has answered; only those of the active one are repeated."""
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
        """The shadows of a version: not itself, and none that takes other rows, which is said once."""
        others = [shadow for shadow in self._shadows if shadow.schema.version != champion.version]
        reasons = {shadow.schema.version: mismatch(shadow.schema, champion) for shadow in others}
        for version, reason in reasons.items():
            if reason:
                self._log.error("shadow_sits_out", version=version, champion=champion.version, reason=reason)
        return [shadow for shadow in others if not reasons[shadow.schema.version]]
