"""``POST /predict``: one row or many."""

from __future__ import annotations

import time
from http import HTTPStatus

import orjson

from app.api.services import Services
from app.api.wire import Call, Handler, Reply, read_json_body
from app.errors import RequestError
from app.serving.answers import label_keys
from app.serving.model import Model
from app.serving.predictor import Answered
from app.types import Json, Prediction


def predict_handler(services: Services) -> Handler:
    """The handler of ``POST /predict``."""
    limits = services.body_limits

    async def predict(call: Call) -> Reply:
        started = time.perf_counter()
        model = services.registry.get(call.query("model_version"))
        rows = 1
        try:
            body = await read_json_body(call, limits)
            request = model.validator.parse(body)
            rows = len(request.rows)
            answered = await services.predictor.predict(model, request, request_id=call.request_id)
        except RequestError as error:
            model.metrics.rows["refused" if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"].inc(rows)
            raise
        except BaseException:
            model.metrics.rows["failed"].inc(rows)
            raise
        _count(model, answered, time.perf_counter() - started)
        call.notes["rows"] = rows
        return Reply(200, orjson.dumps(_many(model, answered) if request.many else _one(model, answered)))

    return predict


def _count(model: Model, answered: Answered, seconds: float) -> None:
    model.metrics.latency.observe(seconds)
    model.metrics.rows["ok"].inc(len(answered.predictions) - len(answered.replayed))
    if answered.replayed:
        model.metrics.rows["replayed"].inc(len(answered.replayed))


def _one(model: Model, answered: Answered) -> Json:
    row = answered.predictions[0]
    return {
        "prediction_id": row.prediction_id,
        "model_name": row.model_name,
        "model_version": row.model_version,
        **_answer(model, answered, row),
    }


def _many(model: Model, answered: Answered) -> Json:
    """The list form; a replay may come from another version than the one that answers now, and then says so."""
    schema = model.schema
    predictions = [
        {
            "prediction_id": row.prediction_id,
            **({"model_version": row.model_version} if row.model_version != schema.version else {}),
            **_answer(model, answered, row),
        }
        for row in answered.predictions
    ]
    return {"model_name": schema.name, "model_version": schema.version, "predictions": predictions}


def _answer(model: Model, answered: Answered, row: Prediction) -> Json:
    prediction, probabilities = row.answer
    if probabilities is None:
        return {"prediction": prediction}
    replayed = answered.replayed.get(row.prediction_id)
    keys = model.label_keys if replayed is None else label_keys(replayed)
    return {"prediction": prediction, "probabilities": dict(zip(keys, probabilities, strict=True))}
