"""Predictions for the tests of the store."""

from __future__ import annotations

from typing import Any

from app.types import Answer, Micros, Prediction


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
