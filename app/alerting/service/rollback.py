"""Probation of a new version: it is rolled back when it fails or answers slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from app.alerting.rules.service import (
    MAX_ERROR_SHARE,
    MIN_REQUESTS,
    MIN_ROWS,
    SLOW,
    Share,
    failed_share,
    failing,
    judged,
    quantile,
    slow_share,
)
from app.background import start_work
from app.errors import RequestError, Unavailable
from app.reports.service import Decision, RollbackEvidence
from app.store.database import Connection, Readers
from app.store.queries.replicas import Step, database_now, read_pulses
from app.store.queries.versions import Activation, read_activation
from app.types import SECOND, Micros, VersionSource, from_datetime

BY = "plumbline: probation"
"""The author of a rollback in the history of a model; no API key can have this name."""
TIMES_WORSE = 2.0
"""The new version must be so many times worse than the one before."""
ALERT_S = 86_400
"""How long a rollback is an alert, unless another version is activated before."""


@dataclass(frozen=True, slots=True)
class Probation:
    """A version on probation, and the version that answered before it."""

    name: str
    version: str
    before: str
    since: Micros


def find_probation(connection: Connection, name: str, *, seconds: float) -> Probation | None:
    """Find the version on probation; None where there is none.

    A probation ends after its time and with a rollback. It needs a version to go back to.
    """
    activation = read_activation(connection, name)
    began = activation.began if activation else None
    if activation is None or began is None or began["act"] != "activate" or not activation.earlier:
        return None
    since = began_at(activation)
    if database_now(connection) - since > seconds * SECOND:
        return None
    return Probation(name, activation.version, activation.earlier[-1], since)


def began_at(activation: Activation | None) -> Micros:
    """The time at which the active version began to answer; 0 where it is not known."""
    began = activation.began if activation else None
    return from_datetime(datetime.fromisoformat(began["at"])) if began else Micros(0)


def last_rollback(activation: Activation | None, *, now: Micros) -> RollbackEvidence | None:
    """The evidence for the rollback to the active version, if it happened within the last day."""
    began = activation.began if activation else None
    fresh = now - began_at(activation) <= ALERT_S * SECOND
    return began.get("evidence") if began and began["by"] == BY and fresh else None


def evaluate_probation(connection: Connection, probation: Probation) -> RollbackEvidence | None:
    """The evidence for a rollback; None where there is none.

    Failures or latency must break their limit by more than chance. Where the version before answered enough requests
    to compare, they must also be twice as bad as with that version.
    """
    new = _steps(connection, probation, probation.version, lambda step: step.began >= probation.since)
    old = _steps(connection, probation, probation.before, lambda step: step.began < probation.since)
    found = _errors(new, old) or _latency(new, old)
    return None if found is None else {"version": probation.version, "to": probation.before, **found}


def _errors(new: list[Step], old: list[Step]) -> Decision | None:
    share, before = failed_share(new), failed_share(old)
    comparable = before.of >= MIN_ROWS
    if not share.exceeds(MAX_ERROR_SHARE, least=MIN_ROWS):
        return None
    if comparable and share.value <= TIMES_WORSE * before.value:
        return None
    reason = f"{failing(share)}, limit {MAX_ERROR_SHARE:.0%}{_compared(comparable, failing(before))}"
    return {"rule": "error_rate", "value": share.value, "limit": MAX_ERROR_SHARE, "reason": reason}


def _latency(new: list[Step], old: list[Step]) -> Decision | None:
    limit = min(SLOW)
    share: Share = slow_share(new, limit)
    p99, before = quantile(new), quantile(old)
    if p99 is None or not share.exceeds(MAX_ERROR_SHARE, least=MIN_REQUESTS):
        return None
    comparable = before is not None and slow_share(old, limit).of >= MIN_REQUESTS
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


def _steps(connection: Connection, probation: Probation, version: str, wanted: Callable[[Step], bool]) -> list[Step]:
    pulses = read_pulses(connection, probation.name, version)
    return judged(step for pulse in pulses for step in pulse.steps if wanted(step))


RETRY_S = 30.0
"""Time between a rollback that failed and the next try."""


class Rollback(Protocol):
    """Rolls versions back."""

    async def roll_back(self, probation: Probation, evidence: RollbackEvidence) -> None:
        """Go back to the version before the one on probation.

        Raises:
            RequestError: the version before is gone or refused, or another version was activated meanwhile.
        """


class Evaluation(Protocol):
    """Evaluates the service, so that an alert tells of a rollback at once."""

    async def run(self) -> None:
        """Evaluate the service once.

        Raises:
            Unavailable: the store cannot be reached.
        """


class AutomaticRollback:
    """Rolls the version on probation back when there is evidence against it.

    A rollback is a task of its own, since it may have to wait for an activation that has begun.
    """

    def __init__(
        self,
        readers: Readers,
        versions: VersionSource,
        rollback: Rollback,
        evaluation: Evaluation,
        *,
        probation_s: float,
    ) -> None:
        self._readers = readers
        self._versions = versions
        self._rollback = rollback
        self._evaluation = evaluation
        self._probation_s = probation_s
        self._again_at = Micros(0)
        self._task: asyncio.Task[bool] | None = None
        self._log = structlog.get_logger("heartbeat")

    async def find(self) -> Probation | None:
        """Find the version on probation; None where there is none.

        Raises:
            Unavailable: the store cannot be reached.
        """
        name = self._versions.served().active.name
        return await self._readers.run(find_probation, name, seconds=self._probation_s)

    async def check(self, probation: Probation, clock: Micros) -> None:
        """Begin a rollback if there is evidence for one; of several replicas, the first one does it.

        Raises:
            Unavailable: the store cannot be reached.
        """
        if self._task and self._task.done():
            ended, self._task = self._task, None
            if not ended.result():
                self._again_at = Micros(clock + round(RETRY_S * SECOND))
        if self._task or clock < self._again_at:
            return
        evidence = await self._readers.run(evaluate_probation, probation)
        if evidence is not None:
            self._log.error("probation_failed", **evidence)
            self._task = start_work("rollback", self._roll_back(probation, evidence))

    async def stop(self) -> None:
        """Cancel a rollback that has not ended."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _roll_back(self, probation: Probation, evidence: RollbackEvidence) -> bool:
        """Roll back now; False where it failed."""
        try:
            await self._rollback.roll_back(probation, evidence)
        except RequestError as error:  # the version is gone or refused, or another one was activated meanwhile
            self._log.warning("not_rolled_back", version=probation.version, reason=str(error))
            return False
        except Exception as error:  # noqa: BLE001 - logged, and tried again
            self._log.exception("rollback_failed", version=probation.version, exc_info=error)
            return False
        with suppress(Unavailable):  # the next evaluation raises the alert
            await self._evaluation.run()
        return True
