"""``/predictions`` and ``/outcomes``: what is stored, one by one and as a stream."""

from __future__ import annotations

import csv
import io
import time
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from app.api.paging import Cursor, From, Limit, To, micros, page
from app.api.services import ServicesDep, require
from app.errors import FieldError, Invalid, NotFound
from app.ids import PREDICTION_ID
from app.serving.answers import named
from app.store.exports import read_page
from app.store.outcomes import pending, revisions_of
from app.store.predictions import Stored, find
from app.types import SECOND, Json, Micros, Recorded, to_rfc3339

router = APIRouter(tags=["predictions"], dependencies=[Depends(require("read"))])
EXPORT_CHUNK = 1000
MEDIA = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


@router.get("/predictions/{prediction_id}")
async def prediction(prediction_id: str, services: ServicesDep) -> dict[str, Any]:
    """The stored prediction with its outcome and every revision of it."""
    if not PREDICTION_ID.fullmatch(prediction_id):
        raise NotFound("no prediction has this id")
    found = await services.readers.run(find, [prediction_id])
    if prediction_id not in found:
        raise NotFound("no prediction has this id")
    revisions = await services.readers.run(revisions_of, [prediction_id])
    return render(found[prediction_id], revisions.get(prediction_id, []))


def render(stored: Stored, revisions: list[Recorded]) -> Json:
    """A stored prediction as the API shows it."""
    row = stored.prediction
    probabilities = row.answer.probabilities
    return {
        "prediction_id": row.prediction_id,
        "model_name": row.model_name,
        "model_version": row.model_version,
        "features": dict(zip(stored.schema.get("features", []), row.features, strict=False)),
        "context": row.context,
        "prediction": row.answer.prediction,
        "probabilities": None if probabilities is None else named(stored.schema.get("classes", []), probabilities),
        "predicted_at": to_rfc3339(row.predicted_at),
        "outcome": render_outcome(revisions[-1]) if revisions else None,
        "revisions": [render_outcome(revision) for revision in revisions],
    }


def render_outcome(recorded: Recorded) -> Json:
    """One revision of an outcome as the API shows it."""
    return {
        "outcome": recorded.outcome,
        "value": recorded.value,
        "observed_at": None if recorded.observed_at is None else to_rfc3339(recorded.observed_at),
        "recorded_at": to_rfc3339(recorded.recorded_at),
        "revision": recorded.revision,
    }


@router.get("/predictions")
async def predictions(
    services: ServicesDep,
    start: From = None,
    end: To = None,
    model_version: str | None = None,
    labelled: bool | None = None,
    format: Annotated[Literal["jsonl", "csv"] | None, Query(description="A streamed export of everything that matches.")] = None,  # noqa: A002 - the contract's name
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Stored predictions by time: a page of them, or with ``format`` all of them as a stream."""
    bounds = {"start": micros(start), "end": micros(end), "version": model_version, "labelled": labelled}
    if format is None:
        after = _parse_cursor(cursor) if cursor else None
        rows = await services.readers.run(read_page, bounds | {"after": after, "limit": limit + 1})
        body = page(rows, limit, lambda row: render(*row), lambda row: _cursor(row[0]))
        return Response(orjson.dumps(body), media_type="application/json")

    async def export() -> Any:
        after: tuple[Micros, str] | None = None
        header = True
        while True:
            rows = await services.readers.run(read_page, bounds | {"after": after, "limit": EXPORT_CHUNK})
            rendered = [render(*row) for row in rows]
            yield _csv(rendered, header=header) if format == "csv" else b"".join(orjson.dumps(row) + b"\n" for row in rendered)
            if len(rows) < EXPORT_CHUNK:
                return
            header = False
            last = rows[-1][0].prediction
            after = (last.predicted_at, last.prediction_id)

    name = f'attachment; filename="predictions.{format}"'
    return StreamingResponse(export(), media_type=MEDIA[format], headers={"content-disposition": name})


@router.get("/outcomes")
async def outcomes(services: ServicesDep, status: Literal["pending"] = "pending", limit: Limit = 100, cursor: Cursor = "") -> dict[str, Any]:  # noqa: ARG001 - the one status there is
    """Outcomes that wait for their prediction."""
    since = Micros(time.time_ns() // 1000 - round(services.config.outcomes.hold_for * SECOND))
    found = await services.readers.run(pending, since=since, limit=limit + 1, after=cursor)
    return page(found, limit, lambda item: {"prediction_id": item.prediction_id, **render_outcome(item)}, lambda item: item.prediction_id)


def _cursor(row: Stored) -> str:
    return f"{row.prediction.predicted_at}.{row.prediction.prediction_id}"


def _parse_cursor(cursor: str) -> tuple[Micros, str]:
    moment, _, prediction_id = cursor.partition(".")
    if not moment.isdecimal() or len(moment) > 18:
        raise Invalid([FieldError("cursor", "the `next` of an answer", "is not one")])
    return Micros(int(moment)), prediction_id


def _csv(rows: list[Json], *, header: bool) -> bytes:
    """Rows with one column a feature (``feature.age``) and one a class (``probability.good``)."""
    text = io.StringIO()
    writer = csv.writer(text)
    plain = ("prediction_id", "model_name", "model_version", "predicted_at", "prediction")
    for index, row in enumerate(rows):
        features, probabilities, outcome = row["features"], row["probabilities"] or {}, row["outcome"] or {}
        if header and index == 0:
            names = [*(f"feature.{name}" for name in features), *(f"probability.{name}" for name in probabilities)]
            writer.writerow([*plain, *names, "outcome", "value", "observed_at", "context"])
        context = orjson.dumps(row["context"]).decode() if row["context"] else ""
        known = [outcome.get("outcome"), outcome.get("value"), outcome.get("observed_at"), context]
        writer.writerow([*(row[name] for name in plain), *features.values(), *probabilities.values(), *known])
    return text.getvalue().encode()
