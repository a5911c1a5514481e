"""The usual way without a model or a store: a FastAPI endpoint that validates a body and answers a constant."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel


class Body(BaseModel):
    """A row to predict, as Plumbline takes it."""

    features: dict[str, float]
    prediction_id: str | None = None


class Reply(BaseModel):
    """An answer of the size that Plumbline gives."""

    prediction_id: str
    model_name: str
    model_version: str
    prediction: str
    probabilities: dict[str, float]


def create_app() -> FastAPI:
    """The application; run it with ``uvicorn --factory``."""
    app = FastAPI()

    @app.post("/predict")
    async def predict(body: Body) -> Reply:
        return Reply(
            prediction_id=body.prediction_id or "none",
            model_name="constant",
            model_version="1",
            prediction="benign" if body.features else "malignant",
            probabilities={"benign": 0.92, "malignant": 0.08},
        )

    return app
