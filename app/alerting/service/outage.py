"""The store cannot be reached: told without it, and written down when it is back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from app.alerting.rules.configured import RuleSet
from app.alerting.rules.service import OUTAGE_RULE, judge_service
from app.store.database import Connection
from app.store.queries import reports
from app.store.queries.alerts import Alert, Silence, keep
from app.store.queries.replicas import database_now
from app.types import SECOND, Json, Micros, ModelSchema, Report, new_id

LIMIT_S = 10.0
"""How long a store may be away unnoticed: a restart or a failover is no reason to wake anybody."""
AfterReport = Callable[[Connection, Report], None]
"""What else is written in a report's transaction: the state of its alerts, and whom it tells."""


class Tell(Protocol):
    """Tells every channel of an alert that is in no table."""

    def begin(self, alert: Alert) -> None:
        """Begin to tell that it fires, and return at once."""

    def end(self) -> None:
        """Tell it no more: it would come behind the message of its end."""


@dataclass(frozen=True, slots=True)
class Over:
    """An outage that has ended.

    Attributes:
        alert: that of which was told.
        ended: by the clock of whoever followed it.
    """

    alert: Alert
    ended: Micros
    seconds: float
    reason: str


class Outage:
    """Follows whether the store is there, in memory alone.

    Attributes:
        over: outages that ended and are still to be written down, the oldest first.
        silences: those last known, since they cannot be read when they are needed.
    """

    def __init__(
        self,
        reason: Callable[[], str | None],
        schema: Callable[[], ModelSchema],
        tell: Tell,
        rules: RuleSet | None = None,
    ) -> None:
        self._reason = reason
        self._schema = schema
        self._tell = tell
        self._rules = rules or RuleSet()
        self._began: Micros | None = None
        self._last_reason = ""
        self._alert: Alert | None = None
        self.over: deque[Over] = deque()
        self.silences: Sequence[Silence] = ()

    @property
    def lasts(self) -> bool:
        """Whether the store was away at the last look."""
        return self._began is not None

    def look(self, clock: Micros, *, now: Micros) -> None:
        """Tell of an outage that lasts, once; ``now`` is what to say of when."""
        reason = self._reason()
        if reason is None:
            if self._began is not None and self._alert:
                self._tell.end()
                self.over.append(Over(self._alert, clock, (clock - self._began) / SECOND, self._last_reason))
            self._began = self._alert = None
            return
        self._last_reason = reason
        if self._began is None:
            self._began = clock
        seconds = (clock - self._began) / SECOND
        if self._alert is None and seconds >= LIMIT_S:
            self._alert = self._made(_body(seconds, reason), Micros(now - (clock - self._began)), now)
            if self._alert and self._alert.told_at is not None:
                self._tell.begin(self._alert)

    def write(self, connection: Connection, over: Over, after: AfterReport, *, clock: Micros) -> None:
        """Write down an outage that is over: that it fired, of which everybody has heard, and that it is resolved.

        What is written already, and only the answer of the store was lost, stays as it is.
        """
        alert = over.alert
        if reports.get(connection, alert.report_id):
            return
        ended = Micros(database_now(connection) - (clock - over.ended))
        began = Micros(ended - round(over.seconds * SECOND))
        body = _body(over.seconds, over.reason)
        reports.save(connection, _report(alert, alert.report_id, began, body | {"status": "warning"}))
        finding = self._rules.change(judge_service(body))[OUTAGE_RULE] or alert.finding
        keep(connection, replace(alert, finding=finding, since=began, changed_at=began))
        resolved: Json = {"status": "ok", "outage": None, "errors": []}
        report = _report(alert, new_id(ended * 1000), ended, resolved)
        reports.save(connection, report)
        after(connection, report)

    def _made(self, body: Json, since: Micros, now: Micros) -> Alert | None:
        """The alert, to be told of unless it is silenced; None where the rule is off."""
        finding = self._rules.change(judge_service(body))[OUTAGE_RULE]
        if finding is None:
            return None
        schema, at = self._schema(), since * 1000
        alert = Alert(
            new_id(at), OUTAGE_RULE, schema.name, schema.version, "firing", finding, since, since, 1, new_id(at), since
        )
        silenced = any(
            silence.starts_at <= now < silence.ends_at and silence.covers(alert) for silence in self.silences
        )
        return replace(alert, told_at=None) if silenced else alert


def _body(seconds: float, reason: str) -> Json:
    return {"outage": {"seconds": seconds, "limit_s": LIMIT_S, "reason": reason.splitlines()[0]}, "errors": []}


def _report(alert: Alert, report_id: str, at: Micros, body: Json) -> Report:
    return Report(report_id, "service", alert.model_name, alert.model_version, at, body["status"], body)
