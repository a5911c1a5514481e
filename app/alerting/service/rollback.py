"""Probation of a new version, and its rollback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import structlog

from app.alerting.rules.service import (
    LARGEST_SHARE,
    LEAST_REQUESTS,
    LEAST_ROWS,
    SLOW,
    Share,
    failed_share,
    failing,
    judged,
    quantile,
    slow_share,
)
from app.errors import RequestError, Unavailable
from app.store.database import Connection, Readers
from app.store.queries.replicas import Step, database_now, read_pulses
from app.store.queries.versions import Activation, read_activation
from app.types import SECOND, Json, Micros, ModelSchema, from_datetime

BY = "plumbline: probation"
"""Who made the change, in the history of a model; no key can have this name."""
TIMES_WORSE = 2.0
"""How many times worse than the version before the new one must be: what fails with both is not the version's fault."""
TOLD_S = 86_400
"""How long a rollback is an alert, unless another version is activated before."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A version on probation, and the one that answered before it."""

    name: str
    version: str
    before: str
    since: Micros


def find_trial(connection: Connection, name: str, *, seconds: float) -> Trial | None:
    """The version on probation; None after its time, after a rollback, and where there is nothing to roll back to."""
    activation = read_activation(connection, name)
    began = activation.began if activation else None
    if activation is None or began is None or began["act"] != "activate" or not activation.earlier:
        return None
    since = began_at(activation)
    if database_now(connection) - since > seconds * SECOND:
        return None
    return Trial(name, activation.version, activation.earlier[-1], since)


def began_at(activation: Activation | None) -> Micros:
    """When the active version began to answer; 0 where that is not known."""
    began = activation.began if activation else None
    return from_datetime(datetime.fromisoformat(began["at"])) if began else Micros(0)


def last_rollback(activation: Activation | None, *, now: Micros) -> Json | None:
    """The evidence on which the active version was rolled back to, within the last day."""
    began = activation.began if activation else None
    fresh = now - began_at(activation) <= TOLD_S * SECOND
    return began.get("evidence") if began and began["by"] == BY and fresh else None


def judge_trial(connection: Connection, trial: Trial) -> Json | None:
    """Why the version must be rolled back; None as long as it need not.

    Its failures or its latency break their limit by more than chance, and are twice those of the version before, where
    that one answered enough to compare.
    """
    new = _steps(connection, trial, trial.version, lambda step: step.began >= trial.since)
    old = _steps(connection, trial, trial.before, lambda step: step.began < trial.since)
    found = _errors(new, old) or _latency(new, old)
    return None if found is None else {"version": trial.version, "to": trial.before, **found}


def _errors(new: list[Step], old: list[Step]) -> Json | None:
    share, before = failed_share(new), failed_share(old)
    comparable = before.of >= LEAST_ROWS
    if not share.exceeds(LARGEST_SHARE, least=LEAST_ROWS):
        return None
    if comparable and share.value <= TIMES_WORSE * before.value:
        return None
    reason = f"{failing(share)}, limit {LARGEST_SHARE:.0%}{_compared(comparable, failing(before))}"
    return {"rule": "error_rate", "value": share.value, "limit": LARGEST_SHARE, "reason": reason}


def _latency(new: list[Step], old: list[Step]) -> Json | None:
    limit = min(SLOW)
    share: Share = slow_share(new, limit)
    p99, before = quantile(new), quantile(old)
    if p99 is None or not share.exceeds(LARGEST_SHARE, least=LEAST_REQUESTS):
        return None
    comparable = before is not None and slow_share(old, limit).of >= LEAST_REQUESTS
    if comparable and before is not None and p99 <= TIMES_WORSE * before:
        return None
    reason = f"the 99th percentile of its latency was {p99:.2g} s, limit {limit:g} s"
    return {
        "rule": "latency",
        "value": p99,
        "limit": limit,
        "reason": reason + _compared(comparable, f"{before or 0.0:.2g} s"),
    }


def _compared(comparable: bool, figure: str) -> str:
    return f"; with the version before: {figure}" if comparable else ""


def _steps(connection: Connection, trial: Trial, version: str, wanted: Callable[[Step], bool]) -> list[Step]:
    pulses = read_pulses(connection, trial.name, version)
    return judged(step for pulse in pulses for step in pulse.steps if wanted(step))


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
