"""The outbox: messages and actions that wait for delivery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, FromClause, and_, delete, exists, func, or_, select, update

from app.store.tables import ALERTS, OUTBOX, SETTINGS, from_text, insert_into, to_text
from app.types import SECOND, Json, Micros

SUPERSEDED = "superseded"
"""The error of a message whose alert ended before anybody could be told of it: the message of its end says both."""
EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Message:
    """A claimed row; ``tries`` counts this one in."""

    outbox_id: str
    channel: str
    event: str
    body: Json
    created_at: Micros
    tries: int


def enqueue(
    connection: Connection,
    *,
    channel: str,
    event: str,
    key: str,
    body: Json,
    alert_id: str | None = None,
    now: Micros,
) -> bool:
    """Store a message to a channel; False: the same event of the same key is there already."""
    adding = insert_into(connection.dialect, OUTBOX).values(
        outbox_id=_id(key, event, channel),
        channel=channel,
        event=event,
        alert_id=alert_id,
        body=to_text(body),
        created_at=now,
        next_try_at=now,
        tries=0,
    )
    return connection.execute(adding.on_conflict_do_nothing().returning(OUTBOX.c.outbox_id)).first() is not None


def is_stored(connection: Connection, *, channel: str, event: str, keys: Sequence[str]) -> bool:
    """Tell whether a message of this event to a channel was stored under one of these keys."""
    ids = [_id(key, event, channel) for key in keys]
    found = select(OUTBOX.c.outbox_id).where(OUTBOX.c.outbox_id.in_(ids)).limit(1)
    return connection.execute(found).first() is not None


def is_due(connection: Connection, channel: str, *, now: Micros) -> bool:
    """Tell whether :func:`claim` would find a message.

    A reader is asked, so that an idle channel never writes.
    """
    return connection.execute(select(OUTBOX.c.outbox_id).where(*_due(channel, now)).limit(1)).first() is not None


def claim(connection: Connection, channel: str, *, now: Micros, seconds: float) -> Message | None:
    """Claim the oldest due message of a channel for some seconds.

    During these seconds no other replica gets it.

    Who is killed meanwhile has claimed in vain: the message is due again when the seconds have passed.
    """
    due = _due(channel, now)
    first = select(OUTBOX.c.outbox_id).where(*due).order_by(OUTBOX.c.created_at, OUTBOX.c.outbox_id).limit(1)
    taking = (
        update(OUTBOX)
        .where(OUTBOX.c.outbox_id == first.scalar_subquery(), *due)  # due still, where another replica was quicker
        .values(tries=OUTBOX.c.tries + 1, next_try_at=now + round(seconds * SECOND))
        .returning(OUTBOX)
    )
    row = connection.execute(taking).first()
    if row is None:
        return None
    body = from_text(row.body)
    return Message(row.outbox_id, row.channel, row.event, body, Micros(row.created_at), row.tries)


def supersede(connection: Connection, channel: str, *, now: Micros) -> int:
    """Drop due messages of alerts that have ended since, and give their number.

    The message of the end tells of both.
    """
    end = OUTBOX.alias()
    ended = exists().where(
        end.c.channel == channel,
        end.c.alert_id == OUTBOX.c.alert_id,
        end.c.event == "resolved",
    )
    begun = (*_due(channel, now), OUTBOX.c.event == "firing", ended)
    return connection.execute(update(OUTBOX).where(*begun).values(failed_at=now, error=SUPERSEDED)).rowcount


def delivered(connection: Connection, message: Message, *, now: Micros) -> None:
    """Note that a message has arrived."""
    _update_waiting(connection, OUTBOX.c.outbox_id == message.outbox_id, {"delivered_at": now, "error": None})


def put_off(connection: Connection, message: Message, *, until: Micros, error: str) -> None:
    """Note that a message could not be sent, and when it is due again; a later claim stands."""
    mine = and_(OUTBOX.c.outbox_id == message.outbox_id, OUTBOX.c.tries == message.tries)
    _update_waiting(connection, mine, {"next_try_at": until, "error": error})


def rest(connection: Connection, channel: str, *, until: Micros) -> None:
    """Put off all that waits for a channel which has asked to be left alone."""
    early = (OUTBOX.c.channel == channel, OUTBOX.c.next_try_at < until)
    _update_waiting(connection, and_(*early), {"next_try_at": until})


def expire(connection: Connection, channel: str, *, before: Micros, now: Micros) -> int:
    """Give the messages up that a channel has not taken since a moment; the number given up."""
    old = (OUTBOX.c.channel == channel, OUTBOX.c.created_at < before, OUTBOX.c.next_try_at <= now, _waiting(OUTBOX))
    return connection.execute(update(OUTBOX).where(*old).values(failed_at=now, error=EXPIRED)).rowcount


def count_waiting(connection: Connection, *, since: Micros) -> int:
    """Count the waiting messages that were stored since a moment, over all channels."""
    waiting = select(func.count()).select_from(OUTBOX).where(_waiting(OUTBOX), OUTBOX.c.created_at >= since)
    return connection.execute(waiting).scalar_one()


def purge(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete up to ``limit`` messages that were stored before a moment; the number deleted.

    Those of what still fires are kept: they say who has heard of it, and must hear of its end.
    """
    fires = exists().where(ALERTS.c.alert_id == OUTBOX.c.alert_id, ALERTS.c.state == "firing")
    old = select(OUTBOX.c.outbox_id).where(OUTBOX.c.created_at < before, ~fires).limit(limit)
    return connection.execute(delete(OUTBOX).where(OUTBOX.c.outbox_id.in_(old))).rowcount


def _due(channel: str, now: Micros) -> tuple[ColumnElement[bool], ...]:
    """Select messages that are due and do not stand behind an earlier one of the same alert.

    The message of an alert's end comes last.
    """
    before = OUTBOX.alias()
    earlier = exists().where(
        before.c.channel == channel,
        before.c.alert_id == OUTBOX.c.alert_id,
        before.c.event == "firing",
        or_(before.c.created_at < OUTBOX.c.created_at, OUTBOX.c.event == "resolved"),
        _waiting(before),
    )
    mine = (OUTBOX.c.channel == channel, OUTBOX.c.next_try_at <= now, _waiting(OUTBOX))
    return (*mine, or_(OUTBOX.c.alert_id.is_(None), ~earlier))


def _id(key: str, event: str, channel: str) -> str:
    return f"{key}/{event}/{channel}"


def _waiting(table: FromClause) -> ColumnElement[bool]:
    return and_(table.c.delivered_at.is_(None), table.c.failed_at.is_(None))


def _update_waiting(connection: Connection, which: ColumnElement[bool], values: Mapping[str, Any]) -> None:
    connection.execute(update(OUTBOX).where(which, _waiting(OUTBOX)).values(values))


MAX_REQUESTS = 20


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
    def state(self) -> Literal["waiting", "delivered", "failed"]:
        """Tell whether the request was delivered."""
        if self.delivered_at is not None:
            return "delivered"
        return "waiting" if self.failed_at is None else "failed"


def take_turn(connection: Connection, key: str, *, now: Micros, pause_s: float) -> bool:
    """Take the one turn of ``pause_s`` seconds over all replicas.

    False means that another replica took it.
    """
    taking = insert_into(connection.dialect, SETTINGS).values(key=key, value="null", changed_at=now)
    over = SETTINGS.c.changed_at <= now - round(pause_s * SECOND)
    taking = taking.on_conflict_do_update(index_elements=["key"], set_={"changed_at": now}, where=over)
    return connection.execute(taking.returning(SETTINGS.c.key)).first() is not None


def advance(connection: Connection, key: str, moment: Micros) -> bool:
    """Move a moment that all replicas share forward.

    False means that another replica did, or that there was none.
    """
    first = insert_into(connection.dialect, SETTINGS).values(key=key, value="null", changed_at=moment)
    if connection.execute(first.on_conflict_do_nothing().returning(SETTINGS.c.key)).first() is not None:
        return False
    moving = update(SETTINGS).where(SETTINGS.c.key == key, SETTINGS.c.changed_at < moment).values(changed_at=moment)
    return connection.execute(moving).rowcount > 0


def asked(connection: Connection, channel: str) -> Sequence[Action]:
    """Read what was requested through a channel of the outbox, the latest first."""
    latest = select(OUTBOX).where(OUTBOX.c.channel == channel).order_by(OUTBOX.c.created_at.desc()).limit(MAX_REQUESTS)
    return [
        Action(from_text(row.body), row.created_at, row.tries, row.delivered_at, row.failed_at, row.error)
        for row in connection.execute(latest)
    ]
