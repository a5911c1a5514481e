"""Whether checks that are due do come to an end: asked by every replica, since the scheduler may be what has died."""

from __future__ import annotations

from collections.abc import Callable

from app.config import Config
from app.monitoring.check import KINDS
from app.store import reports
from app.store.engine import Connection
from app.store.leases import database_now
from app.types import SECOND, Json, Micros, ModelSchema

INTERVALS = 3
LEAST_S = 60.0
"""A check takes its time, however short the interval is."""
IsDue = Callable[[Connection, str, ModelSchema], bool]


class Overdue:
    """Remembers since when each check has been due; one that ended, well or not, is no longer overdue."""

    def __init__(self, config: Config, is_due: IsDue, schema: Callable[[], ModelSchema]) -> None:
        every = {"drift": config.drift.every, "performance": config.performance.every}
        self._limits_s = {kind: max(INTERVALS * every[kind], LEAST_S) for kind in KINDS}
        self._is_due = is_due
        self._schema = schema
        self._since: dict[tuple[str, str], Micros] = {}

    def __call__(self, connection: Connection) -> Json:
        """For each kind of check how long it has been due, in seconds, and how long it may be."""
        now, schema = database_now(connection), self._schema()
        return {
            kind: {"overdue_s": self._overdue_s(connection, kind, schema, now), "limit_s": limit}
            for kind, limit in self._limits_s.items()
        }

    def _overdue_s(self, connection: Connection, kind: str, schema: ModelSchema, now: Micros) -> float:
        key = (schema.version, kind)
        if not self._is_due(connection, kind, schema):
            self._since.pop(key, None)
            return 0.0
        found = reports.history(connection, kind, schema.name, schema.version, newest_first=True, limit=1)
        ended = found[0].checked_at if found else 0
        return max(0.0, (now - max(self._since.setdefault(key, now), ended)) / SECOND)
