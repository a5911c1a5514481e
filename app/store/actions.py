"""What the service asked others to do: at most once in a while, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from app.store.dialects import insert_into
from app.store.encoding import from_text
from app.store.tables import OUTBOX, SETTINGS
from app.types import SECOND, Json, Micros

MOST = 20


@dataclass(frozen=True, slots=True)
class Action:
    """One request to another system; ``body`` is what was stored with it."""

    body: Json
    asked_at: Micros
    tries: int
    delivered_at: Micros | None
    failed_at: Micros | None
    error: str | None

    @property
    def state(self) -> str:
        """Whether it has arrived."""
        if self.delivered_at is not None:
            return "delivered"
        return "waiting" if self.failed_at is None else "failed"


def take_turn(connection: Connection, key: str, *, now: Micros, pause_s: float) -> bool:
    """Take the one turn that there is in ``pause_s`` seconds, over all replicas; False: it was taken before."""
    taking = insert_into(connection.dialect, SETTINGS).values(key=key, value="null", changed_at=now)
    over = SETTINGS.c.changed_at <= now - round(pause_s * SECOND)
    taking = taking.on_conflict_do_update(index_elements=["key"], set_={"changed_at": now}, where=over)
    return connection.execute(taking.returning(SETTINGS.c.key)).first() is not None


def asked(connection: Connection, channel: str) -> Sequence[Action]:
    """What was asked through a channel of the outbox, the latest first, as long as it is kept there."""
    latest = select(OUTBOX).where(OUTBOX.c.channel == channel).order_by(OUTBOX.c.created_at.desc()).limit(MOST)
    return [
        Action(from_text(row.body), row.created_at, row.tries, row.delivered_at, row.failed_at, row.error)
        for row in connection.execute(latest)
    ]
