"""Silences: alerts that are judged and shown, and of which nobody is told for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, RowMapping, insert, or_, select, update

from app.store.alerts import Alert
from app.store.leases import database_now
from app.store.tables import SILENCES
from app.types import Micros, Severity


@dataclass(frozen=True, slots=True)
class Matcher:
    """Which alerts a silence covers: those that fit everything that is named; without a name, all of them.

    Attributes:
        feature: fits an alert that is about this feature alone, so that a second one is still heard of.
    """

    rule: str | None = None
    severity: Severity | None = None
    feature: str | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """One row; ``ended_at`` is set where it was ended before its time."""

    silence_id: str
    matcher: Matcher
    starts_at: Micros
    ends_at: Micros
    reason: str
    created_by: str | None
    created_at: Micros
    ended_at: Micros | None = None

    def covers(self, alert: Alert) -> bool:
        """Whether nobody is told of an alert while the silence lasts."""
        wanted = self.matcher
        return (
            wanted.rule in (None, alert.rule)
            and wanted.severity in (None, alert.finding.severity)
            and (wanted.feature is None or alert.finding.causes == (wanted.feature,))
        )


def add(connection: Connection, silence: Silence) -> None:
    """Store a silence."""
    values = asdict(silence)
    connection.execute(insert(SILENCES).values(values.pop("matcher") | values))


def end(connection: Connection, silence_id: str) -> Silence | None:
    """End a silence now, unless it has ended. None: no silence has this id."""
    now = database_now(connection)
    running = (SILENCES.c.silence_id == silence_id, SILENCES.c.ended_at.is_(None), SILENCES.c.ends_at > now)
    connection.execute(update(SILENCES).where(*running).values(ended_at=now))
    row = connection.execute(select(SILENCES).where(SILENCES.c.silence_id == silence_id)).mappings().first()
    return None if row is None else _silence(row)


def active(connection: Connection, *, at: Micros) -> Sequence[Silence]:
    """Every silence that covers this moment."""
    return [silence for silence in planned(connection, at=at) if silence.starts_at <= at]


def planned(connection: Connection, *, at: Micros) -> Sequence[Silence]:
    """Every silence that has not ended by this moment, the first to end first."""
    table = SILENCES.c
    lasting = select(SILENCES).where(table.ends_at > at, or_(table.ended_at.is_(None), table.ended_at > at))
    return [_silence(row) for row in connection.execute(lasting.order_by(table.ends_at, table.silence_id)).mappings()]


def _silence(row: RowMapping) -> Silence:
    columns = dict(row)
    matcher = Matcher(*(columns.pop(name) for name in ("rule", "severity", "feature")))
    return Silence(matcher=matcher, **columns)
