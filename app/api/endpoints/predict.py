"""``POST /predict``: one row or many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from http import HTTPStatus

import orjson

from app.api.dependencies import Services
from app.api.http import Call, Handler, Reply, read_json_body
from app.errors import NotFound, RequestError, Unavailable
from app.serving.model import Model
from app.serving.predictor import Answered, Called
from app.types import Json, Prediction, Row, label_keys, new_id


def predict_handler(services: Services) -> Handler:
    """The handler of ``POST /predict``."""
    limits = services.body_limits

    async def predict(call: Call) -> Reply:
        model = services.registry.get(call.query("model_version"))
        rows = 1
        try:
            body = await read_json_body(call, limits)
            request = model.validator.parse(body)
            rows = len(request.rows)
            answered = await services.predictor.predict(
                model, request, request_id=call.request_id, received_at=call.received_at
            )
        except RequestError as error:
            model.metrics.rows["refused" if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"].inc(rows)
            raise
        except BaseException:
            model.metrics.rows["failed"].inc(rows)
            raise
        _count(model, answered, time.perf_counter() - call.received_at)
        call.notes = {"rows": rows}
        if request.many:
            return Reply(200, orjson.dumps(_many(model, answered)))
        row = answered.predictions[0]
        return Reply(200, orjson.dumps(_one(row, _keys(model, answered, row))))

    return predict


class PredictBatch:
    """Requests for one row each, answered together by the active version."""

    def __init__(self, services: Services) -> None:
        self._registry = services.registry
        self._predictor = services.predictor

    @property
    def most(self) -> int:
        """Most requests that the model answers at once; none while there is no model."""
        try:
            return self._registry.get(None).batcher.most_at_once
        except NotFound:
            return 0

    def read(self, calls: Sequence[Call]) -> list[Row | None]:
        """The row of each request that has no id or context of its own."""
        quick = self._registry.get(None).validator.quick
        return [quick.row(call.body) if quick and call.body is not None else None for call in calls]

    async def settle(self, calls: Sequence[Call], items: Sequence[Row]) -> tuple[Model, list[Prediction]]:
        """Answer and store; an id that the caller did not choose is the request's, where that is ours too."""
        model = self._registry.get(None)
        called = [
            Called(new_id() if b"x-request-id" in call.headers else call.request_id, call.request_id, call.received_at)
            for call in calls
        ]
        try:
            return model, await self._predictor.predict_together(model, items, called)
        except (Unavailable, asyncio.CancelledError):
            model.metrics.rows["failed"].inc(len(calls))
            raise

    def replies(self, calls: Sequence[Call], done: tuple[Model, list[Prediction]]) -> list[Reply]:
        """One answer each."""
        model, rows = done
        try:
            self._predictor.follow(model, rows)
            replies = [Reply(200, orjson.dumps(_one(row, model.label_keys))) for row in rows]
        except BaseException:
            model.metrics.rows["failed"].inc(len(rows))
            raise
        ended, notes = time.perf_counter(), {"rows": 1}
        model.metrics.rows["ok"].inc(len(rows))
        for call in calls:
            model.metrics.latency.observe(ended - call.received_at)
            call.notes = notes
        return replies


def _count(model: Model, answered: Answered, seconds: float) -> None:
    model.metrics.latency.observe(seconds)
    model.metrics.rows["ok"].inc(len(answered.predictions) - len(answered.replayed))
    if answered.replayed:
        model.metrics.rows["replayed"].inc(len(answered.replayed))


def _one(row: Prediction, keys: Sequence[str]) -> Json:
    return {
        "prediction_id": row.prediction_id,
        "model_name": row.model_name,
        "model_version": row.model_version,
        **_answer(row, keys),
    }


def _many(model: Model, answered: Answered) -> Json:
    """The list form; a replay may come from another version than the one that answers now, and then says so."""
    schema = model.schema
    predictions = [
        {
            "prediction_id": row.prediction_id,
            **({"model_version": row.model_version} if row.model_version != schema.version else {}),
            **_answer(row, _keys(model, answered, row)),
        }
        for row in answered.predictions
    ]
    return {"model_name": schema.name, "model_version": schema.version, "predictions": predictions}


def _keys(model: Model, answered: Answered, row: Prediction) -> Sequence[str]:
    """The names of the classes of the version that answered the row."""
    replayed = answered.replayed.get(row.prediction_id)
    return model.label_keys if replayed is None else label_keys(replayed)


def _answer(row: Prediction, keys: Sequence[str]) -> Json:
    prediction, probabilities = row.answer
    if probabilities is None:
        return {"prediction": prediction}
    return {"prediction": prediction, "probabilities": dict(zip(keys, probabilities, strict=True))}
