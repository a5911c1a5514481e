"""The schemas under which rows were stored, so that rows can be read when the bundle is long gone."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from app.store.encoding import to_text
from app.store.tables import MODELS
from app.types import Micros, ModelSchema


def remember(connection: Connection, schema: ModelSchema, sha256: str, *, now: Micros) -> None:
    """Note a loaded version; the first load of a version stands."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    known = {
        "task": schema.task.value,
        "features": list(schema.feature_names),
        "classes": list(schema.classes),
    }
    row = {
        "name": schema.name,
        "version": schema.version,
        "sha256": sha256,
        "schema": to_text(known),
        "first_loaded_at": now,
    }
    connection.execute(dialect.insert(MODELS).values(row).on_conflict_do_nothing())
