"""GET /predictions: one by its id, and streamed exports."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal, NotRequired, TypeAlias, cast

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from typing_extensions import TypedDict

from app.api.dependencies import BoundModel, Cursor, From, Limit, Services, ServicesDep, To, micros, page, require
from app.api.documentation import answers
from app.api.endpoints.exports import MEDIA, Format, Pages, join_schemas, renderer
from app.api.http import bytes_response, json_response
from app.api.request_guards import GRANT, Grant
from app.errors import FieldError, Invalid, NotFound
from app.figures.drift import UnusualRow, UnusualRows, no_unusual_rows
from app.store.database import Connection
from app.store.queries.labelled import read_page
from app.store.queries.outcomes import pending, revisions_of
from app.store.queries.predictions import Stored, find
from app.store.queries.reports import latest
from app.store.queries.versions import known
from app.types import PREDICTION_ID, SECOND, Label, Micros, Recorded, Scalar, named, to_rfc3339


class StoredOutcome(TypedDict):
    """One revision of an outcome; the latest counts."""

    outcome: Label
    value: float | None
    observed_at: str | None
    recorded_at: str
    revision: int


class StoredPrediction(TypedDict):
    """A prediction as it is stored, with its outcome and the latest revisions of it."""

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
    """The latest ones, the oldest of them first: up to 100 of one prediction, up to 10 each in a list or an export."""
    revision_count: int
    """The number of all revisions."""
    request_id: NotRequired[str]
    """The ``X-Request-ID`` of the request that asked for it, as in the log; of one prediction, not in lists."""
    latency_ms: NotRequired[float]
    """From the request's first byte to the answer of the model; of one prediction, not in lists."""
    unusual: NotRequired[UnusualRow]
    """What makes it unusual, where ``unusual=true`` asks for such rows."""


class PredictionPage(TypedDict):
    """Stored predictions by time."""

    items: list[StoredPrediction]
    next: str | None
    """The ``cursor`` of the next page; null at the end."""
    reason: NotRequired[str]
    """Why no row was judged, where ``unusual=true`` asks for unusual ones."""


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
    "revision_count": 1,
}
router = APIRouter(tags=["predictions"], dependencies=[Depends(require("read"))])
_CURSOR = re.compile(r"([0-9]{1,18})\.(.+)")
MAX_REVISIONS_SHOWN = 100
Place: TypeAlias = tuple[Micros, str]
"""The place of a row in the order of time: its time and its id."""
EXPORT_CHUNK = 100
"""Rows of one part: to read and render them takes some milliseconds, in which other threads wait for Python."""


@router.get("/predictions/{prediction_id}")
@answers(StoredPrediction, PREDICTION, scope="read", errors=(404, 503))
async def prediction(prediction_id: str, services: ServicesDep, bound: BoundModel) -> Response:
    """The stored prediction with its outcome and the latest revisions of it."""
    if not PREDICTION_ID.fullmatch(prediction_id):
        raise NotFound("no prediction has this id")
    found = await services.readers.run(find, [prediction_id])
    if prediction_id not in found or bound not in (None, found[prediction_id].prediction.model_name):
        raise NotFound("no prediction has this id")
    revisions = await services.readers.run(revisions_of, [prediction_id], most=MAX_REVISIONS_SHOWN)
    stored = found[prediction_id]
    shown = render(stored, revisions.get(prediction_id, []))
    shown["request_id"] = stored.prediction.request_id
    shown["latency_ms"] = stored.prediction.latency_us / 1000
    return json_response(shown)


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
        "revision_count": revisions[-1].revision if revisions else 0,
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
    unusual: Annotated[
        Literal["true"] | None, Query(description="Only the unusual rows that the latest drift report names.")
    ] = None,
    form: Annotated[
        Format | None, Query(alias="format", description="A streamed export of everything that matches.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = "",
    request: Request,
) -> Response:
    """Stored predictions by time: a page of them, or with ``format`` all of them as a stream."""
    if form is not None and "limit" in request.query_params:
        raise Invalid([FieldError("limit", "no limit beside format", "an export has every row that matches")], "query")
    bounds: dict[str, Any] = {
        "start": micros(start),
        "end": micros(end),
        "version": model_version,
        "labelled": labelled,
        "name": bound,
    }
    after = _parse_cursor(cursor) if cursor else None
    named: UnusualRows | None = await _unusual(services, model_version) if unusual else None
    if named is not None:
        bounds["ids"] = [row["prediction_id"] for row in named["rows"]]
    if form is None:
        return bytes_response(await _page(services, bounds, after, limit, named))
    stream = Export(services, bounds, await _renderer(services, form, model_version))
    services.turns.begin_stream(stream)
    first = await stream.next(after)
    name = f'attachment; filename="predictions.{form}"'
    return StreamingResponse(stream.parts(first), media_type=MEDIA[form], headers={"content-disposition": name})


async def _unusual(services: Services, version: str | None) -> UnusualRows:
    """The unusual rows that the latest drift report of a version names."""
    schema = services.registry.get(None).schema
    report = await services.readers.run(latest, "drift", schema.name, version or schema.version)
    if report and (found := report.body.get("unusual_rows")):
        return cast("UnusualRows", found)
    return no_unusual_rows("no drift report of this version has looked for unusual rows yet")


async def _page(
    services: Services, bounds: dict[str, Any], after: Place | None, limit: int, named: UnusualRows | None
) -> bytes:
    """One page as JSON, read and rendered in parts like an export."""
    items: list[tuple[Place, bytes]] = []
    while (most := min(EXPORT_CHUNK, limit + 1 - len(items))) > 0:
        read = partial(_items, bounds | {"after": after, "limit": most}, named)
        part = await services.turns.run(partial(services.readers.run, read))
        items += part
        if len(part) < most:
            break
        after = part[-1][0]
    following = "{}.{}".format(*items[limit - 1][0]) if len(items) > limit else None
    shown = b",".join(item for _, item in items[:limit])
    reason = b',"reason":%b' % orjson.dumps(named["reason"]) if named and named["reason"] else b""
    return b'{"items":[%b],"next":%b%b}' % (shown, orjson.dumps(following), reason)


def _items(bounds: dict[str, Any], named: UnusualRows | None, connection: Connection) -> list[tuple[Place, bytes]]:
    about = {row["prediction_id"]: row for row in named["rows"]} if named else {}
    items = []
    for stored, revisions in read_page(connection, bounds):
        item = render(stored, revisions)
        if item["prediction_id"] in about:
            item["unusual"] = about[item["prediction_id"]]
        items.append((_place(stored), orjson.dumps(item)))
    return items


async def _renderer(services: Services, form: Format, version: str | None) -> Pages:
    """The renderer of an export, with the columns of every version whose rows may be in it."""
    noted = [row for row in await services.readers.run(known) if version in (None, row["version"])]
    loaded = []
    for row in noted:
        with suppress(NotFound):
            loaded.append(services.registry.schema(row["version"]))
    active, shown = services.registry.get(None).schema, services.privacy.exported_schema
    return await asyncio.to_thread(lambda: renderer(form, shown(join_schemas(active, loaded, noted))))


class Export:
    """One export.

    Its rows are read and rendered in a reader's thread, a small part at each turn.
    """

    def __init__(self, services: Services, bounds: dict[str, Any], rendered: Pages) -> None:
        self._turns = services.turns
        self._readers = services.readers
        self._bounds = bounds
        self._rendered = rendered
        self._after: Place | None = None

    async def next(self, after: Place | None) -> bytes:
        """The part behind a row."""
        read = partial(self._read, self._bounds | {"after": after, "limit": EXPORT_CHUNK})
        return await self._turns.run(partial(self._readers.run, read))

    async def parts(self, first: bytes) -> AsyncIterator[bytes]:
        """Give everything from the first part on.

        That part is read before the answer begins, so that an outage is a 503.
        """
        part = first
        try:
            while self._after is not None:
                if part:
                    yield part
                self._turns.note_taken(self)
                part = await self.next(self._after)
            yield part + await asyncio.to_thread(self._rendered.end)
        finally:
            self._turns.end_stream(self)

    def _read(self, bounds: dict[str, Any], connection: Connection) -> bytes:
        rows = read_page(connection, bounds)
        self._after = _place(rows[-1][0]) if len(rows) == EXPORT_CHUNK else None
        return self._rendered([render(*row) for row in rows])


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


def _place(row: Stored) -> Place:
    return row.prediction.predicted_at, row.prediction.prediction_id


def _parse_cursor(cursor: str) -> Place:
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise Invalid([FieldError("cursor", "the `next` of an answer", "is not one")], "query")
    return Micros(int(parts[1])), parts[2]
