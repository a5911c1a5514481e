"""Predictions with their truth, a page at a time."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from app.store.outcomes import revisions_of
from app.store.predictions import Stored, stream
from app.types import Recorded


def read_page(connection: Connection, bounds: dict[str, Any]) -> list[tuple[Stored, list[Recorded]]]:
    """Predictions within the bounds of :func:`app.store.predictions.stream`, with every revision of their outcomes."""
    rows = list(stream(connection, **bounds))
    truth = revisions_of(connection, [row.prediction.prediction_id for row in rows])
    return [(row, truth.get(row.prediction.prediction_id, [])) for row in rows]
