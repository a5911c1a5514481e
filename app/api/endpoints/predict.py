"""``POST /predict``: one row or many."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from http import HTTPStatus
from time import perf_counter, time

import orjson
from msgspec import Struct

from app.api.dependencies import Services
from app.api.http import Call, Reply
from app.errors import Forbidden, NotFound, RequestError, TooManyRequests, Unauthenticated, UntrustedHost
from app.serving.predictor import Answered, PredictCall
from app.serving.registry import Model
from app.types import Json, Prediction, PredictRequest, label_keys


class Asked(Struct, frozen=True, gc=False):
    """A request, and the version that it asks."""

    model: Model
    request: PredictRequest


class PredictHandler:
    """Predictions: a request for one row joins others, one for many rows is a group of its own."""

    parameters: tuple[str, ...] = ("model_version",)

    def __init__(self, services: Services) -> None:
        self._registry = services.registry
        self._predictor = services.predictor

    @property
    def max_group(self) -> int:
        """Most requests that the active version answers at once."""
        try:
            return self._registry.get(None).batcher.max_group_rows
        except NotFound:
            return 1

    def decode(self, call: Call, body: bytes) -> Asked:
        """The rows of a request.

        Raises:
            NotFound: there is no such version.
            Invalid: see the validator.
        """
        model = self._registry.get(call.query("model_version"))
        return Asked(model, model.validator.parse(body))

    def group_of(self, item: Asked) -> Hashable:
        """Rows for one version are answered together."""
        return None if item.request.many else id(item.model)

    async def handle(self, calls: Sequence[Call], items: Sequence[Asked]) -> list[Answered | Exception]:
        """Answer the rows and store them.

        An id that the caller did not choose is the request's, where that is ours too.
        """
        asked = [
            PredictCall(
                item.request,
                call.request_id,
                _own_id(call, item),
                call.received_at,
                call.headers,
                call.stages,
            )
            for call, item in zip(calls, items, strict=True)
        ]
        return await self._predictor.predict(items[0].model, asked)

    def render(self, calls: Sequence[Call], items: Sequence[Asked], results: Sequence[Answered]) -> list[Reply]:
        """One answer each."""
        model = items[0].model
        replies = [
            Reply(200, orjson.dumps(_many(model, answered) if item.request.many else _one(model, answered)))
            for item, answered in zip(items, results, strict=True)
        ]
        model.metrics.latency.observe(perf_counter(), [call.received_at for call in calls])
        rows, replays = 0, 0
        for call, item, answered in zip(calls, items, results, strict=True):
            if item.request.many:
                call.notes = {"rows": len(answered.predictions), "model_version": model.schema.version}
            else:
                call.prediction = answered.predictions[0]
            rows += len(answered.predictions)
            replays += len(answered.replayed)
        kind = _type_of(items[0])
        model.metrics.rows[kind, "ok"].inc(rows - replays)
        if replays:
            model.metrics.rows[kind, "replayed"].inc(replays)
        model.metrics.last_predictions.note(model.schema.name, model.schema.version, time())
        return replies

    def count_failure(self, call: Call, item: Asked | None, error: BaseException) -> None:
        """Count the rows of a request of somebody who may send it."""
        if isinstance(error, (Unauthenticated, Forbidden, TooManyRequests, UntrustedHost)):
            return
        try:
            model = item.model if item else self._registry.get(call.query("model_version"))
        except NotFound:
            return
        call.notes = {"model_version": model.schema.version} | _id_note(call, item)
        refused = isinstance(error, RequestError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR
        status = "refused" if refused else "failed"
        model.metrics.rows[_type_of(item), status].inc(len(item.request.rows) if item else 1)
        if refused:
            model.metrics.latency.refused += 1
        else:
            model.metrics.latency.failed += 1


def _type_of(item: Asked | None) -> str:
    """The label ``prediction_type``; what cannot be read is one row."""
    return "batch" if item is not None and item.request.many else "realtime"


def _id_note(call: Call, item: Asked | None) -> Json:
    """The id of the only row of a request that failed, as its log line names it."""
    if item is None or item.request.many:
        return {}
    id_ = item.request.ids[0] or _own_id(call, item)
    return {} if id_ is None else {"prediction_id": id_}


def _own_id(call: Call, item: Asked) -> str | None:
    """The request's id, for a row whose caller chose none; None where that is the caller's."""
    return None if item.request.many or b"x-request-id" in call.headers else call.request_id


def _one(model: Model, answered: Answered) -> Json:
    row = answered.predictions[0]
    shown = {"prediction_id": row.prediction_id, "model_name": row.model_name, "model_version": row.model_version}
    return _with_answer(shown, model, answered, row)


def _many(model: Model, answered: Answered) -> Json:
    """The list form of an answer.

    A replay may come from another version than the one that answers now, and then says so.
    """
    schema = model.schema
    predictions = []
    for row in answered.predictions:
        shown = {"prediction_id": row.prediction_id}
        if row.model_version != schema.version:
            shown["model_version"] = row.model_version
        predictions.append(_with_answer(shown, model, answered, row))
    return {"model_name": schema.name, "model_version": schema.version, "predictions": predictions}


def _with_answer(shown: Json, model: Model, answered: Answered, row: Prediction) -> Json:
    """Add what the model said of a row."""
    shown["prediction"] = row.answer.prediction
    probabilities = row.answer.probabilities
    if probabilities is not None:
        shown["probabilities"] = dict(zip(_keys(model, answered, row), probabilities, strict=True))
    return shown


def _keys(model: Model, answered: Answered, row: Prediction) -> Sequence[str]:
    """The names of the classes of the version that answered the row."""
    replayed = answered.replayed.get(row.prediction_id) if answered.replayed else None
    return model.label_keys if replayed is None else label_keys(replayed)
