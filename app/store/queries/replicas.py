"""Rows that replicas share: leases, the database's clock, and usage counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, case, cast, delete, func, literal_column, or_, select

from app.metrics import LATENCY_BUCKETS
from app.store.tables import LEASES, PULSES, from_text, insert_into, to_text
from app.types import SECOND, Micros


def acquire(connection: Connection, name: str, holder: str, *, seconds: float) -> int | None:
    """Take or renew a lease for some seconds by the database's clock.

    Returns:
        the fencing token, which grows with every change of holder; None while another holds the lease.
    """
    now = _now(connection)
    until = now + round(seconds * SECOND)
    taking = insert_into(connection.dialect, LEASES).values(name=name, holder=holder, until=until, token=1)
    mine = LEASES.c.holder == holder
    taking = taking.on_conflict_do_update(
        index_elements=["name"],
        set_={"holder": holder, "until": until, "token": LEASES.c.token + case((mine, 0), else_=1)},
        where=or_(mine, LEASES.c.until < now),
    )
    connection.execute(taking)
    row = connection.execute(select(LEASES).where(LEASES.c.name == name)).one()
    return int(row.token) if row.holder == holder else None


def release(connection: Connection, name: str, holder: str) -> None:
    """Give a lease up, so that another replica need not wait for its end."""
    connection.execute(LEASES.update().where(LEASES.c.name == name, LEASES.c.holder == holder).values(until=0))


def database_now(connection: Connection) -> Micros:
    """The database's clock: the one that all replicas share."""
    return Micros(int(connection.execute(select(_now(connection))).scalar_one()))


def _now(connection: Connection) -> ColumnElement[int]:
    if connection.dialect.name == "sqlite":
        return cast(literal_column("(julianday('now') - 2440587.5) * 86400000000.0"), BigInteger)
    return cast(func.extract("epoch", func.clock_timestamp()) * SECOND, BigInteger)


KEPT_S = 3600
"""Age at which the pulse of a replica or version that has stopped is forgotten."""


class Step(NamedTuple):
    """Hold the usage counts of a version in one replica for a few seconds.

    Attributes:
        began: by the clock of whoever holds the step; in the store, by the database's.
        answered, refused, failed: rows, by what became of them.
        away: the store could not be reached, so that failures say nothing about the version.
        latencies: answered requests by latency, in each of the buckets of ``ml_prediction_latency_seconds``.
    """

    began: Micros
    answered: int
    refused: int
    failed: int
    away: bool
    latencies: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pulse:
    """The latest steps of one version in one replica."""

    replica: str
    model_name: str
    model_version: str
    steps: Sequence[Step]


def beat(connection: Connection, pulses: Sequence[Pulse], *, clock: Micros) -> None:
    """Store each pulse in the place of the one before, and forget what is old.

    Args:
        clock: what the clock of the steps says now.
    """
    now = database_now(connection)
    for pulse in pulses:
        body = to_text([[step.began + now - clock, *step[1:]] for step in pulse.steps])
        key = {"replica": pulse.replica, "model_name": pulse.model_name, "model_version": pulse.model_version}
        putting = insert_into(connection.dialect, PULSES).values(**key, at=now, body=body)
        connection.execute(
            putting.on_conflict_do_update(
                index_elements=["replica", "model_version"],
                set_={"model_name": pulse.model_name, "at": now, "body": body},
            )
        )
    connection.execute(delete(PULSES).where(PULSES.c.at < now - KEPT_S * SECOND))


def read_pulses(connection: Connection, name: str, version: str) -> Sequence[Pulse]:
    """The pulses of a version, one of each replica that served it within the last hour.

    Steps of another form are left out: beside this release, for as long as it is rolled out, another one beats.
    """
    mine = select(PULSES).where(PULSES.c.model_name == name, PULSES.c.model_version == version)
    return [
        Pulse(row.replica, name, version, [_step(values) for values in from_text(row.body) if _is_step(values)])
        for row in connection.execute(mine.order_by(PULSES.c.replica))
    ]


def _is_step(values: Sequence[Any]) -> bool:
    return len(values) == len(Step._fields) and len(values[-1]) == len(LATENCY_BUCKETS) + 1


def _step(values: Sequence[Any]) -> Step:
    return Step._make([*values[:-1], tuple(values[-1])])
