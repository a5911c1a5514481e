"""Model versions: those known to the store, and the one that is activated."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from typing import Any, Literal

from sqlalchemy import Connection, Insert, Update, select

from app.errors import Conflict
from app.reports.service import RollbackEvidence
from app.store.queries.replicas import database_now
from app.store.tables import MODELS, SETTINGS, from_text, insert_into, to_text
from app.types import Json, Micros, ModelSchema, to_rfc3339

KEPT = 100
"""Changes that the history of a model keeps."""


@dataclass(frozen=True, slots=True)
class Activation:
    """Hold the activated version of a model.

    Attributes:
        sha256: of its ``bundle.yaml``, so that no replica takes another model of the same name and number.
        earlier: the versions to roll back to, the latest last.
        history: who changed what, and when, the latest last.
    """

    version: str
    sha256: str
    earlier: tuple[str, ...] = ()
    history: tuple[Json, ...] = ()

    @property
    def began(self) -> Json | None:
        """Find the history's entry with which the version began to answer.

        A repeated activation is no new beginning.
        """
        entries = list(takewhile(lambda entry: entry["version"] == self.version, reversed(self.history)))
        return entries[-1] if entries else None

    def change(self, version: str, sha256: str) -> Activation:
        """Another version answers; to roll back leads here."""
        earlier = self.earlier if version == self.version else (*self.earlier, self.version)
        return replace(self, version=version, sha256=sha256, earlier=earlier[-KEPT:])

    def back(self, sha256: str) -> Activation:
        """The version before answers again; to roll back once more leads to the one before that."""
        return replace(self, version=self.earlier[-1], sha256=sha256, earlier=self.earlier[:-1])


def read_activation(connection: Connection, name: str) -> Activation | None:
    """The activated version of a model; None while the configuration alone decides."""
    text = connection.execute(select(SETTINGS.c.value).where(SETTINGS.c.key == _key(name))).scalar()
    if text is None:
        return None
    kept = from_text(text)
    return Activation(kept["version"], kept["sha256"], tuple(kept["earlier"]), tuple(kept["history"]))


def save_activation(
    connection: Connection,
    name: str,
    chosen: Activation,
    *,
    seen: Activation | None,
    act: Literal["activate", "rollback"],
    by: str | None,
    evidence: RollbackEvidence | None = None,
) -> None:
    """Store a choice, with an entry in its history.

    Args:
        seen: the choice on which this one stands.
        by: the name of the caller's key.
        evidence: why, where nobody but the service itself decided it.

    Raises:
        Conflict: another choice was stored meanwhile.
    """
    now = database_now(connection)
    entry: Json = {"act": act, "version": chosen.version, "by": by, "at": to_rfc3339(now)}
    if evidence is not None:
        entry["evidence"] = evidence
    row = {"value": _text(replace(chosen, history=(*chosen.history, entry)[-KEPT:])), "changed_at": now}
    statement: Insert | Update
    if seen is None:
        statement = insert_into(connection.dialect, SETTINGS).values(key=_key(name), **row).on_conflict_do_nothing()
    else:
        unchanged = (SETTINGS.c.key == _key(name), SETTINGS.c.value == _text(seen))
        statement = SETTINGS.update().where(*unchanged).values(row)
    if connection.execute(statement.returning(SETTINGS.c.key)).first() is None:
        raise Conflict("another version was activated meanwhile; look at GET /models and decide again")


def _text(activation: Activation) -> str:
    return to_text(asdict(activation))


def _key(name: str) -> str:
    return f"active/{name}"


def remember(connection: Connection, schema: ModelSchema, sha256: str, *, now: Micros) -> None:
    """Note a loaded version; the first load of a version stands."""
    described = {
        "task": schema.task.value,
        "features": list(schema.feature_names),
        "classes": list(schema.classes),
    }
    row = {
        "name": schema.name,
        "version": schema.version,
        "sha256": sha256,
        "schema": to_text(described),
        "first_loaded_at": now,
    }
    note(connection, row)


def note(connection: Connection, row: dict[str, Any]) -> None:
    """Note a version by its row; one that is known stands."""
    connection.execute(insert_into(connection.dialect, MODELS).values(row).on_conflict_do_nothing())


def known(connection: Connection) -> list[dict[str, Any]]:
    """The rows of all versions that were ever noted."""
    return [dict(row) for row in connection.execute(select(MODELS)).mappings()]
