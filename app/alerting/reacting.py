"""What follows from a report, in the transaction that saves it: alerts, who is told of them, and what is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from app.alerting.actions import Retraining
from app.alerting.evaluation import evaluate
from app.alerting.ruleset import RuleSet
from app.alerting.telling import Telling
from app.store.engine import Connection
from app.store.leases import database_now
from app.store.transitions import aloud, resolve_others
from app.types import Report, Task


@dataclass(frozen=True, slots=True)
class Reaction:
    """Puts rules, messages and requests together."""

    rules: RuleSet
    tell: Telling
    retraining: Retraining
    retrain_share: float

    def on_report(self, connection: Connection, report: Report, task: Task, *, is_active: bool) -> None:
        """Bring alerts up to date; only the version that answers is retrained."""
        at = report.checked_at
        changes = evaluate(connection, report, task=task, retrain_share=self.retrain_share, rules=self.rules)
        self.tell(connection, changes, now=at)
        self.tell(connection, aloud(connection, report.model_name, report.model_version, now=at), now=at)
        if is_active:
            self.retraining(connection, report, task)

    def on_turn(self, connection: Connection, name: str, watched: Collection[str]) -> None:
        """End the alerts of versions that nobody watches any more, and tell of the others who has not heard yet."""
        now = database_now(connection)
        self.tell(connection, resolve_others(connection, name, watched, now=now), now=now)
        for version in watched:
            self.tell(connection, aloud(connection, name, version, now=now), now=now)
