"""Pulses: what each replica did in its last minutes, by version, so that any of them can judge the whole service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, select

from app.metrics import LATENCY_BUCKETS
from app.store.dialects import insert_into
from app.store.encoding import from_text, to_text
from app.store.leases import database_now
from app.store.tables import PULSES
from app.types import SECOND, Micros

KEPT_S = 3600
"""Age at which the pulse of a replica or version that has stopped is forgotten."""


class Step(NamedTuple):
    """What a version did in one replica for a few seconds.

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
