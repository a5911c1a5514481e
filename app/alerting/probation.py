"""Probation: a version that fails soon after its activation is rolled back, once, with nobody awake for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from app.alerting.figures import Share, failed_share, judged, quantile, slow_share
from app.alerting.service_rules import LARGEST_SHARE, LEAST_REQUESTS, LEAST_ROWS, SLOW, failing
from app.store.engine import Connection
from app.store.leases import database_now
from app.store.pulses import Step, read_pulses
from app.store.settings import Activation, read_activation
from app.types import SECOND, Json, Micros, from_datetime

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
