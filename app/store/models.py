"""The schemas under which rows were stored, so that rows can be read when the bundle is long gone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from app.store.dialects import insert_into
from app.store.encoding import to_text
from app.store.tables import MODELS
from app.types import Micros, ModelSchema


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
