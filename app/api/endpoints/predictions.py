"""GET /predictions: one by its id, and streamed exports."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal, Protocol, TypeAlias

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from typing_extensions import TypedDict

from app.api.dependencies import BoundModel, Cursor, From, Limit, Services, ServicesDep, To, micros, page, require
from app.api.documentation import answers
from app.api.endpoints.parquet import ParquetPages
from app.api.http import json_response
from app.api.middleware import GRANT, Grant
from app.errors import FieldError, Invalid, NotFound, PlumblineError
from app.store.queries.labelled import read_page
from app.store.queries.outcomes import pending, revisions_of
from app.store.queries.predictions import Stored, find
from app.store.queries.versions import known
from app.store.sql import from_text
from app.types import (
    PREDICTION_ID,
    SECOND,
    Feature,
    FeatureType,
    Label,
    Micros,
    ModelSchema,
    Recorded,
    Scalar,
    Task,
    label_keys,
    named,
    to_rfc3339,
)

Format: TypeAlias = Literal["jsonl", "csv", "parquet"]
MEDIA: dict[Format, str] = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_HEAD = ("prediction_id", "model_name", "model_version", "predicted_at", "prediction")
_TAIL = ("outcome", "value", "observed_at")


class Pages(Protocol):
    """Renders the pages of one export, in order."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """One page."""

    def end(self) -> bytes:
        """Give the end of the export, after the last page."""


def renderer(form: Format, schema: ModelSchema) -> Pages:
    """Render one export with the columns of ``schema``, which also gives Parquet its types.

    Raises:
        Invalid: the format is Parquet, and pyarrow is not installed.
    """
    if form == "parquet":
        try:
            return ParquetPages(schema)
        except PlumblineError as error:
            raise Invalid([FieldError("format", "jsonl or csv", str(error))]) from None
    return CsvPages(schema) if form == "csv" else JsonLines()


def join_schemas(active: ModelSchema, loaded: Sequence[ModelSchema], noted: Sequence[Mapping[str, Any]]) -> ModelSchema:
    """Join the schemas of all versions.

    An export then has a column for whatever one of them takes or answers.

    Args:
        loaded: schemas whose types are known.
        noted: versions that the store knows, with the names of their features alone; their columns are text.
    """
    features: dict[str, Feature] = {}
    for feature in (feature for schema in (active, *loaded) for feature in schema.features):
        before = features.setdefault(feature.name, feature)
        if before.type is not feature.type and not (before.type.is_number and feature.type.is_number):
            features[feature.name] = Feature(feature.name, FeatureType.CATEGORICAL)
    classes, tasks = dict.fromkeys(active.classes), {active.task}
    for row in noted:
        described = from_text(row["schema"])
        for name in described["features"]:
            features.setdefault(name, Feature(name, FeatureType.CATEGORICAL))
        classes |= dict.fromkeys(described["classes"])
        tasks.add(Task(described["task"]))
    task = Task.REGRESSION if Task.REGRESSION in tasks else active.task
    return replace(active, task=task, features=tuple(features.values()), classes=tuple(classes))


class JsonLines:
    """Rows as JSON, one a line."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """One page."""
        return b"".join(orjson.dumps(row) + b"\n" for row in rows)

    def end(self) -> bytes:
        """Nothing."""
        return b""


class CsvPages:
    """Rows with one column a feature (``feature.age``) and one a class (``probability.good``).

    The columns are those of all versions; each row fills those that its version has.
    """

    def __init__(self, schema: ModelSchema) -> None:
        self._features = list(schema.feature_names)
        self._classes = list(label_keys(schema.classes))
        self._begun = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """One page; the first begins with the header."""
        text = io.StringIO()
        writer = csv.writer(text)
        if not self._begun:
            self._begun = True
            named = [
                *(f"feature.{name}" for name in self._features),
                *(f"probability.{name}" for name in self._classes),
            ]
            writer.writerow([*_HEAD, *named, *_TAIL, "context"])
        writer.writerows(self._cells(row) for row in rows)
        return text.getvalue().encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""

    def _cells(self, row: Mapping[str, Any]) -> list[object]:
        probabilities, outcome = row["probabilities"] or {}, row["outcome"] or {}
        return [
            *(row[name] for name in _HEAD),
            *(row["features"].get(name) for name in self._features),
            *(probabilities.get(name) for name in self._classes),
            *(outcome.get(name) for name in _TAIL),
            orjson.dumps(row["context"]).decode() if row["context"] else "",
        ]


class StoredOutcome(TypedDict):
    """One revision of an outcome; the latest counts."""

    outcome: Label
    value: float | None
    observed_at: str | None
    recorded_at: str
    revision: int


class StoredPrediction(TypedDict):
    """A prediction as it is stored, with its outcome and every revision of it."""

    prediction_id: str
    model_name: str
    model_version: str
    features: Mapping[str, Scalar]
    context: Mapping[str, Scalar] | None
    prediction: Label
    probabilities: dict[str, float] | None
    predicted_at: str
    outcome: StoredOutcome | None
    revisions: list[StoredOutcome]


class PredictionPage(TypedDict):
    """Stored predictions by time."""

    items: list[StoredPrediction]
    next: str | None
    """The ``cursor`` of the next page; null at the end."""


class PendingOutcome(StoredOutcome):
    """An outcome that waits for its prediction."""

    prediction_id: str


class PendingPage(TypedDict):
    """Outcomes that wait for their prediction."""

    items: list[PendingOutcome]
    next: str | None


OUTCOME: StoredOutcome = {
    "outcome": "bad",
    "value": -130.5,
    "observed_at": "2026-11-20T10:00:00.000000Z",
    "recorded_at": "2026-11-20T10:00:02.000000Z",
    "revision": 1,
}
PREDICTION: StoredPrediction = {
    "prediction_id": "order-7781",
    "model_name": "credit",
    "model_version": "1",
    "features": {"age": 41, "income": 52_000.0, "channel": "web"},
    "context": {"region": "EU"},
    "prediction": "good",
    "probabilities": {"bad": 0.08, "good": 0.92},
    "predicted_at": "2026-11-19T10:00:00.000000Z",
    "outcome": OUTCOME,
    "revisions": [OUTCOME],
}
router = APIRouter(tags=["predictions"], dependencies=[Depends(require("read"))])
_CURSOR = re.compile(r"([0-9]{1,18})\.(.+)")
EXPORT_CHUNK = 1000
Page: TypeAlias = list[tuple[Stored, list[Recorded]]]


@router.get("/predictions/{prediction_id}")
@answers(StoredPrediction, PREDICTION, scope="read", errors=(404, 503))
async def prediction(prediction_id: str, services: ServicesDep, bound: BoundModel) -> Response:
    """The stored prediction with its outcome and every revision of it."""
    if not PREDICTION_ID.fullmatch(prediction_id):
        raise NotFound("no prediction has this id")
    found = await services.readers.run(find, [prediction_id])
    if prediction_id not in found or bound not in (None, found[prediction_id].prediction.model_name):
        raise NotFound("no prediction has this id")
    revisions = await services.readers.run(revisions_of, [prediction_id])
    return json_response(render(found[prediction_id], revisions.get(prediction_id, [])))


def render(stored: Stored, revisions: list[Recorded]) -> StoredPrediction:
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


def render_outcome(recorded: Recorded) -> StoredOutcome:
    """One revision of an outcome as the API shows it."""
    return {
        "outcome": recorded.outcome,
        "value": recorded.value,
        "observed_at": None if recorded.observed_at is None else to_rfc3339(recorded.observed_at),
        "recorded_at": to_rfc3339(recorded.recorded_at),
        "revision": recorded.revision,
    }


@router.get("/predictions")
@answers(
    PredictionPage,
    {"items": [PREDICTION], "next": None},
    scope="read",
    errors=(422, 503),
    media={media.split(";")[0]: {"type": "string"} for media in MEDIA.values()},
)
async def predictions(
    *,
    services: ServicesDep,
    bound: BoundModel,
    start: From = None,
    end: To = None,
    model_version: Annotated[str | None, Query(pattern=r"^[^\x00]{1,64}$")] = None,
    labelled: bool | None = None,
    form: Annotated[
        Format | None, Query(alias="format", description="A streamed export of everything that matches.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Stored predictions by time: a page of them, or with ``format`` all of them as a stream."""
    bounds = {"start": micros(start), "end": micros(end), "version": model_version, "labelled": labelled, "name": bound}
    after = _parse_cursor(cursor) if cursor else None
    if form is None:
        rows = await services.readers.run(read_page, bounds | {"after": after, "limit": limit + 1})
        body = page(rows, limit, lambda row: render(*row), lambda row: _cursor(row[0]))
        return json_response(body)
    rendered = renderer(form, await _schema_of_all(services, model_version))
    first = await services.readers.run(read_page, bounds | {"after": after, "limit": EXPORT_CHUNK})
    name = f'attachment; filename="predictions.{form}"'
    return StreamingResponse(
        _export(services, bounds, first, rendered), media_type=MEDIA[form], headers={"content-disposition": name}
    )


async def _schema_of_all(services: Services, version: str | None) -> ModelSchema:
    """The joined schema of every version whose rows may be in an export."""
    noted = [row for row in await services.readers.run(known) if version in (None, row["version"])]
    loaded = []
    for row in noted:
        with suppress(NotFound):
            loaded.append(services.registry.schema(row["version"]))
    return services.privacy.exported_schema(join_schemas(services.registry.get(None).schema, loaded, noted))


async def _export(services: Services, bounds: dict[str, Any], rows: Page, rendered: Pages) -> AsyncIterator[bytes]:
    """Stream everything from the first page on.

    That page is read before the answer begins, so that an outage is a 503.
    """
    while True:
        yield rendered([render(*row) for row in rows])
        if len(rows) < EXPORT_CHUNK:
            break
        last = rows[-1][0].prediction
        after = (last.predicted_at, last.prediction_id)
        rows = await services.readers.run(read_page, bounds | {"after": after, "limit": EXPORT_CHUNK})
    yield rendered.end()


@router.get("/outcomes")
@answers(
    PendingPage,
    {"items": [OUTCOME | {"prediction_id": "order-7781"}], "next": None},
    scope="read",
    errors=(422, 503),
)
async def outcomes(
    services: ServicesDep,
    request: Request,
    _status: Annotated[Literal["pending"], Query(alias="status")] = "pending",
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Outcomes that wait for their prediction."""
    since = Micros(time.time_ns() // 1000 - round(services.config.outcomes.hold_for * SECOND))
    grant: Grant | None = request.scope.get(GRANT)
    by = grant.name if grant and grant.model else None  # of the others nobody knows which model they are about
    found = await services.readers.run(pending, since=since, limit=limit + 1, after=cursor, by=by)
    return json_response(page(found, limit, _pending, lambda item: item.prediction_id))


def _pending(item: Recorded) -> PendingOutcome:
    return {"prediction_id": item.prediction_id, **render_outcome(item)}


def _cursor(row: Stored) -> str:
    return f"{row.prediction.predicted_at}.{row.prediction.prediction_id}"


def _parse_cursor(cursor: str) -> tuple[Micros, str]:
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise Invalid([FieldError("cursor", "the `next` of an answer", "is not one")])
    return Micros(int(parts[1])), parts[2]
