"""The data path: from validated requests to stored answers, for one request or many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog
from msgspec import Struct

from app.errors import Conflict, ModelFailed, Unavailable
from app.logging import ids_of, trace_id_of
from app.serving.registry import Model
from app.store.journal.journal import Journal, OnStored
from app.store.privacy import Privacy
from app.store.queries.predictions import Stored, Taken, insert, insert_new
from app.types import NO_STAGES, Answer, Label, Micros, ModelSchema, Prediction, PredictRequest, Row, Stages, new_id


class PredictionLookup(Protocol):
    """Finds predictions that are stored, or wait in the spool."""

    async def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """The predictions with these ids, by id."""


class RowConsumer(Protocol):
    """Takes predictions after their answer."""

    def offer(self, model: Model, rows: Sequence[Prediction]) -> None:
        """Take rows that a version has answered, and return at once."""


NO_HEADERS: Mapping[bytes, bytes] = {}


class RowLog(Protocol):
    """Writes a line for each stored prediction."""

    def offer(
        self, schema: ModelSchema, traces: Sequence[str | None], rows: Sequence[Prediction], stored: Sequence[object]
    ) -> None:
        """Take rows in their stored form, with their traces; one with a result is a replay."""


class PredictCall(Struct, frozen=True, gc=False):
    """A validated request.

    Attributes:
        own_id: the id of a row whose caller chose none; None: a new one.
        received_at: when its first byte came, by ``time.perf_counter``; ``latency_us`` counts from then.
        headers: those that it came with, of which lines of the log take the trace.
        stages: when its stages began and ended, where traces are sent.
    """

    request: PredictRequest
    request_id: str
    own_id: str | None
    received_at: float
    headers: Mapping[bytes, bytes] = NO_HEADERS
    stages: Stages | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace that it belongs to."""
        return trace_id_of(self.headers) if self.stages is None else self.stages.trace_id


class Answered(Struct, frozen=True, gc=False):
    """The predictions of one request, in order.

    Attributes:
        replayed: the ids that were stored before and are answered again, with the classes of the version that
            answered them.
    """

    predictions: Sequence[Prediction]
    replayed: Mapping[str, Sequence[Label]]


NONE_REPLAYED: Mapping[str, Sequence[Label]] = {}


class Predictor:
    """Answers requests: batched by the model, stored by the journal, each id once."""

    def __init__(
        self,
        journal: Journal,
        stored: PredictionLookup,
        shadows: RowConsumer | None = None,
        privacy: Privacy | None = None,
        log: RowLog | None = None,
    ) -> None:
        self._journal = journal
        self._stored = stored
        self.shadows = shadows
        self._privacy = privacy or Privacy()
        self._row_log = log
        self._claims: dict[str, asyncio.Future[None]] = {}
        self._log = structlog.get_logger("predictor")

    async def predict(self, model: Model, calls: Sequence[PredictCall]) -> list[Answered | Exception]:
        """Answer requests.

        An answer leaves only after its rows are committed, all rows of a request or none.

        The failure of one request is a Conflict where an id is known with other features, a RequestError or a
        ModelFailed where the model does not take its rows, or Unavailable; see the batcher and the journal.

        Two requests with the same id are answered one after the other: the second is then a replay.
        """
        if not _any_chosen(calls):
            return await self._answer(model, calls)
        results: dict[int, Answered | Exception] = {}
        left: Sequence[int] = range(len(calls))
        while left:
            free, left, claimed = self._divide(calls, left)
            if free:
                ids = [id_ for place in free for id_ in _chosen(calls[place])]
                answers = await self._answer_claimed(model, [calls[place] for place in free], ids)
                results.update(zip(free, answers, strict=True))
            elif claimed:
                await asyncio.wait(claimed)
        return [results[place] for place in range(len(calls))]

    def _divide(
        self, calls: Sequence[PredictCall], places: Sequence[int]
    ) -> tuple[list[int], list[int], set[asyncio.Future[None]]]:
        """The requests whose ids nobody else is storing, the others, and what these wait for."""
        free: list[int] = []
        later: list[int] = []
        taken: set[str] = set()
        claimed: set[asyncio.Future[None]] = set()
        for place in places:
            ids = _chosen(calls[place])
            others = {self._claims[id_] for id_ in ids if id_ in self._claims}
            if others or not taken.isdisjoint(ids):
                claimed |= others
                later.append(place)
            else:
                taken.update(ids)
                free.append(place)
        return free, later, claimed

    async def _answer_claimed(
        self, model: Model, calls: Sequence[PredictCall], ids: Sequence[str]
    ) -> list[Answered | Exception]:
        """Answer while these ids are ours in this process."""
        claim: asyncio.Future[None] = self._journal.new_future()
        self._claims.update(dict.fromkeys(ids, claim))
        try:
            return await self._answer(model, calls)
        finally:
            for id_ in ids:
                del self._claims[id_]
            claim.set_result(None)

    async def _answer(self, model: Model, calls: Sequence[PredictCall]) -> list[Answered | Exception]:
        """Answer all together; where that fails, each alone, so that only the guilty fails."""
        must_look_up = any(call.request.many for call in calls) or (self._journal.spooling and _any_chosen(calls))
        if not must_look_up or len(calls) == 1:
            try:
                answered: list[Answered | Exception] = (
                    [await self._look_up_then_store(model, calls[0])]
                    if must_look_up
                    else await self._store_then_compare(model, calls)
                )
            except Unavailable as error:
                return [error] * len(calls)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to tell of
                if len(calls) == 1:
                    return [self._logged(error, calls[0])]
            else:
                self._follow(model, answered)
                return answered
        alone = await asyncio.gather(*(self._answer(model, [call]) for call in calls))
        return [result for (result,) in alone]

    def _stored_form(self, schema: ModelSchema, rows: Sequence[Prediction]) -> Sequence[Prediction]:
        """Rows as they are stored; nothing is looked at where nothing is sensitive."""
        return self._privacy.rows(schema, rows) if self._privacy.modes else rows

    def _log_rows(self, schema: ModelSchema, calls: Sequence[PredictCall]) -> OnStored | None:
        """The function that hands the stored rows of calls to the log of predictions."""
        return partial(self._row_log.offer, schema, [call.trace_id for call in calls]) if self._row_log else None

    async def _store_then_compare(self, model: Model, calls: Sequence[PredictCall]) -> list[Answered | Exception]:
        """Store one row of each request: the insert itself finds the ids that are there already."""
        stages = _stages(calls)
        answers = await model.batcher.predict([call.request.rows[0] for call in calls], stages)
        now, moment = Micros(time.time_ns() // 1000), time.perf_counter()
        rows = [_row(model, call, 0, answer, now, moment) for call, answer in zip(calls, answers, strict=True)]
        chosen = sum([call.request.ids[0] is not None for call in calls])
        there = await self._journal.append(
            insert_new,
            self._stored_form(model.schema, rows),
            ledger=True,
            undecided=chosen,
            spool=insert_new,
            on_stored=self._log_rows(model.schema, calls),
        )
        _note_commit(stages, moment)
        return [
            Answered((row,), NONE_REPLAYED) if stored is None else self._replay(model, row, stored)
            for row, stored in zip(rows, there, strict=True)
        ]

    async def _look_up_then_store(self, model: Model, call: PredictCall) -> Answered:
        """Store the rows of one request, all or none.

        No row is stored before it is known that no id has other features.

        Raises:
            Conflict: an id is known with other features.
        """
        request = call.request
        chosen = _chosen(call)
        while True:
            known = await self._replays(model, request, chosen) if chosen else {}
            fresh = [index for index, id_ in enumerate(request.ids) if id_ is None or id_ not in known]
            rows: list[Prediction] = []
            if fresh:
                stages = _stages([call])
                answers = await model.batcher.predict([request.rows[index] for index in fresh], stages)
                now, moment = Micros(time.time_ns() // 1000), time.perf_counter()
                rows = [
                    _row(model, call, index, answer, now, moment) for index, answer in zip(fresh, answers, strict=True)
                ]
                stored = self._stored_form(model.schema, rows)
                log = self._log_rows(model.schema, [call] * len(rows))
                try:
                    await self._journal.append(insert, stored, ledger=True, spool=insert, on_stored=log)
                    _note_commit(stages, moment)
                except Taken:  # another replica stored one of the ids after we looked: look again, its row answers
                    continue
            made = iter(rows)
            predictions = [
                known[id_].prediction if id_ is not None and id_ in known else next(made) for id_ in request.ids
            ]
            return Answered(predictions, {id_: stored.classes for id_, stored in known.items()})

    async def _replays(self, model: Model, request: PredictRequest, chosen: Sequence[str]) -> dict[str, Stored]:
        """The stored predictions among the chosen ids; the same features must have been sent before."""
        found = await self._stored.find(chosen)
        for id_, row in zip(request.ids, request.rows, strict=True):
            stored = found.get(id_) if id_ else None
            if stored and not self._is_same(stored, model.schema, row):
                raise _conflict(stored)
        return found

    def _replay(self, model: Model, row: Prediction, stored: Stored) -> Answered | Exception:
        """The answer to a row whose id was stored before."""
        if not self._is_same(stored, model.schema, row.features):
            return _conflict(stored)
        return Answered((stored.prediction,), {row.prediction_id: stored.classes})

    def _is_same(self, stored: Stored, schema: ModelSchema, row: Row) -> bool:
        """Whether a row is the stored one.

        It is compared in its stored form, and as rows were stored before that form was chosen.
        """
        return _same_features(stored, schema, row) or (
            bool(self._privacy) and _same_features(stored, schema, self._privacy.row(schema, row))
        )

    def _follow(self, model: Model, answered: Sequence[Answered | Exception]) -> None:
        """Do what comes behind the commit: count the values, and let shadows repeat the rows."""
        rows = [
            row
            for result in answered
            if isinstance(result, Answered)
            for row in result.predictions
            if not (result.replayed and row.prediction_id in result.replayed)
        ]
        model.values.observe(rows)
        if self.shadows is not None:
            self.shadows.offer(model, rows)

    def _logged(self, error: Exception, call: PredictCall) -> Exception:
        """The failure as its caller is told; what the model raised is in the log, under an id."""
        if not isinstance(error, ModelFailed):
            return error
        error_id = new_id()
        rows = len(call.request.rows)
        self._log.error("model_failed", error_id=error_id, rows=rows, **ids_of(call), exc_info=error.__cause__)
        return ModelFailed(f"the model failed; error id {error_id}")


def _chosen(call: PredictCall) -> list[str]:
    """The ids that the caller chose."""
    return [id_ for id_ in call.request.ids if id_ is not None]


def _stages(calls: Sequence[PredictCall]) -> Sequence[Stages]:
    """The stages of calls that are answered together: all of them are traced, or none."""
    return NO_STAGES if calls[0].stages is None else [call.stages for call in calls if call.stages is not None]


def _note_commit(stages: Sequence[Stages], began: float) -> None:
    for each in stages:
        each.commit = (began, time.perf_counter())


def _any_chosen(calls: Sequence[PredictCall]) -> bool:
    return any(call.request.ids.count(None) < len(call.request.ids) for call in calls)


def _row(model: Model, call: PredictCall, index: int, answer: Answer, now: Micros, moment: float) -> Prediction:
    """The row to store."""
    request = call.request
    schema = model.schema
    return Prediction(
        request.ids[index] or call.own_id or new_id(),
        schema.name,
        schema.version,
        request.rows[index],
        answer,
        now,
        int((moment - call.received_at) * 1e6),
        call.request_id,
        "predict",
        "active",
        request.contexts[index],
    )


def _conflict(stored: Stored) -> Conflict:
    return Conflict(f"prediction_id {stored.prediction.prediction_id} is stored with other features")


def _same_features(stored: Stored, schema: ModelSchema, row: Row) -> bool:
    """Whether a stored row has these features, whatever version of the model answered it."""
    names = schema.feature_names
    if stored.prediction.model_name != schema.name:
        return False
    before = stored.schema.get("features", names)
    return dict(zip(before, stored.prediction.features, strict=False)) == dict(zip(names, row, strict=True))
