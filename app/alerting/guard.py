"""The guard over a version on probation: rolls back what does not stand it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

import structlog

from app.alerting.probation import Trial, find_trial, judge_trial
from app.errors import RequestError, Unavailable
from app.store.readers import Readers
from app.types import SECOND, Json, Micros, ModelSchema

RETRY_S = 30.0
"""After a rollback that failed."""
Rollback: TypeAlias = Callable[[Trial, Json], Awaitable[object]]
"""Rolls a version on probation back, with the evidence."""


class Guard:
    """Judges the version on probation; a rollback is a task, so that nobody waits where an activation is on its way.

    Args:
        judge: judges the service after a rollback, so that it is told at once.
    """

    def __init__(
        self,
        readers: Readers,
        schema: Callable[[], ModelSchema],
        rollback: Rollback,
        judge: Callable[[], Awaitable[None]],
        *,
        probation_s: float,
    ) -> None:
        self._readers = readers
        self._schema = schema
        self._rollback = rollback
        self._judge = judge
        self._probation_s = probation_s
        self._again_at = Micros(0)
        self._task: asyncio.Task[bool] | None = None
        self._log = structlog.get_logger("watch")

    async def find(self) -> Trial | None:
        """The version on probation, if there is one.

        Raises:
            Unavailable: the store cannot be reached.
        """
        return await self._readers.run(find_trial, self._schema().name, seconds=self._probation_s)

    async def judge(self, trial: Trial, clock: Micros) -> None:
        """Begin to roll the version back, if it must be; of several replicas that see it, one is the first.

        Raises:
            Unavailable: the store cannot be reached.
        """
        if self._task and self._task.done():
            ended, self._task = self._task, None
            if not ended.result():
                self._again_at = Micros(clock + round(RETRY_S * SECOND))
        if self._task or clock < self._again_at:
            return
        evidence = await self._readers.run(judge_trial, trial)
        if evidence is not None:
            self._log.error("probation_failed", **evidence)
            self._task = asyncio.create_task(self._roll_back(trial, evidence), name="plumbline-rollback")

    async def stop(self) -> None:
        """Give up a rollback that has not ended."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _roll_back(self, trial: Trial, evidence: Json) -> bool:
        """Roll back here and now; whether it was done."""
        try:
            await self._rollback(trial, evidence)
        except RequestError as error:  # it is not there, refused, or somebody was quicker
            self._log.warning("not_rolled_back", version=trial.version, reason=str(error))
            return False
        except Exception as error:  # noqa: BLE001 - logged, and tried again
            self._log.exception("rollback_failed", version=trial.version, exc_info=error)
            return False
        with suppress(Unavailable):  # the next judgement tells of it
            await self._judge()
        return True
