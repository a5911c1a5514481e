"""Predictions for the tests of the store, and what shadows have stored beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from app.reports.service import ServiceReport
from app.store.queries.predictions import chunks
from app.store.tables import SHADOW_PREDICTIONS, from_text
from app.types import Answer, Micros, Prediction

EMPTY_BODY: ServiceReport = {"status": "ok", "errors": []}
"""The body of a report that says nothing, for tests that do not read it."""


def prediction(prediction_id: str, predicted_at: int = 1_000, **changes: Any) -> Prediction:
    """A stored row, alike but for what is named."""
    fields: dict[str, Any] = {
        "model_name": "m",
        "model_version": "1",
        "features": [1.5, None, "web", True],
        "answer": Answer("good", (0.25, 0.75)),
        "latency_us": 7,
        "request_id": "r",
        "context": {"region": "EU"},
        **changes,
    }
    return Prediction(prediction_id=prediction_id, predicted_at=Micros(predicted_at), **fields)


def answers_of(connection: Connection, version: str, ids: Sequence[str]) -> dict[str, Answer]:
    """A shadow version's answers to the rows with these ids."""
    table = SHADOW_PREDICTIONS.c
    found = {}
    for part in chunks(ids):
        statement = select(table.prediction_id, table.prediction, table.probabilities)
        for row in connection.execute(statement.where(table.prediction_id.in_(part), table.model_version == version)):
            probabilities = from_text(row.probabilities)
            found[row.prediction_id] = Answer(
                from_text(row.prediction), None if probabilities is None else tuple(probabilities)
            )
    return found
