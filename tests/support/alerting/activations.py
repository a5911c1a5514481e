"""Stored activations with a past, and what the versions did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from app.store.database import Connection
from app.store.queries.replicas import Pulse, Step, beat, database_now
from app.store.queries.versions import Activation
from app.store.tables import SETTINGS, to_text
from app.types import SECOND, Json, Micros, to_rfc3339


def entry(now: Micros, version: str, ago_s: float) -> Json:
    """An activation in the history, so many seconds ago."""
    at = Micros(now - round(ago_s * SECOND))
    return {"act": "activate", "version": version, "by": "boss", "at": to_rfc3339(at)}


def activate(connection: Connection, *history: Json, earlier: Sequence[str] = ("1",)) -> None:
    """Store that the last version of the history is active."""
    chosen = Activation(history[-1]["version"], "sha", tuple(earlier), history)
    values = {"value": to_text(asdict(chosen)), "changed_at": database_now(connection)}
    connection.execute(SETTINGS.delete())
    connection.execute(SETTINGS.insert().values(key="active/m", **values))


def did(connection: Connection, version: str, steps: Sequence[Step], *, replica: str = "a") -> None:
    """A replica tells what a version did; the steps begin at seconds before now."""
    beat(connection, [Pulse(replica, "m", version, steps)], clock=Micros(0))
