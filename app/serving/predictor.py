"""The data path: from a validated request to a stored answer, in one method."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import NamedTuple, Protocol

from app.errors import Conflict
from app.serving.model import Model
from app.store.journal.journal import Journal
from app.store.queries.predictions import Stored, Taken, insert
from app.types import Answer, Label, Micros, Prediction, PredictRequest, Row, new_id


class PredictionLookup(Protocol):
    """Finds predictions that are stored, or wait in the spool."""

    async def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """The predictions with these ids, by id."""


class RowConsumer(Protocol):
    """Takes predictions after their answer."""

    def offer(self, model: Model, rows: Sequence[Prediction]) -> None:
        """Take rows that a version has answered, and return at once."""


UNCLAIMED = nullcontext()
"""Ids that we make are nobody else's."""


class Answered(NamedTuple):
    """The predictions of one request, in order.

    Attributes:
        replayed: the ids that were stored before and are answered again, with the classes of the version that
            answered them.
    """

    predictions: Sequence[Prediction]
    replayed: Mapping[str, Sequence[Label]]


class Called(NamedTuple):
    """What is known of a request beside its row; ``received_at`` by ``time.perf_counter``."""

    prediction_id: str
    request_id: str
    received_at: float


class Predictor:
    """Answers requests: batched by the model, stored by the journal, each id once."""

    def __init__(self, journal: Journal, stored: PredictionLookup, shadows: RowConsumer | None = None) -> None:
        self._journal = journal
        self._stored = stored
        self._shadows = shadows
        self._claims: dict[str, asyncio.Future[None]] = {}

    async def predict(
        self, model: Model, request: PredictRequest, *, request_id: str, received_at: float, source: str = "predict"
    ) -> Answered:
        """Answer the rows of one request, all or none; an answer leaves only after its row is committed.

        Args:
            received_at: when its first byte came, by ``time.perf_counter``; ``latency_us`` counts from then.

        Raises:
            Conflict: an id is known with other features.
            ModelFailed, Unavailable, TooLarge: see the batcher and the journal.
        """
        chosen = [prediction_id for prediction_id in request.ids if prediction_id is not None]
        async with self._claimed(chosen) if chosen else UNCLAIMED:
            while True:
                known = await self._replays(model, request, chosen) if chosen else {}
                fresh = [index for index, prediction_id in enumerate(request.ids) if prediction_id not in known]
                try:
                    rows = await self._make(model, request, fresh, request_id, source, received_at) if fresh else []
                    break
                except Taken:  # another replica stored one of the ids after we looked: look again, its row answers
                    continue
        self.follow(model, rows)
        made = iter(rows)
        predictions = [known[id_].prediction if id_ in known else next(made) for id_ in request.ids]
        return Answered(predictions, {stored.prediction.prediction_id: stored.classes for stored in known.values()})

    async def predict_together(self, model: Model, rows: Sequence[Row], calls: Sequence[Called]) -> list[Prediction]:
        """Answer one row of each of many requests, all or none; the model is asked at once.

        What comes behind the commit is the caller's, with :meth:`follow`: where this raises, nothing is stored.

        Raises:
            ModelFailed: on one of the rows; nothing is stored.
            Unavailable: see the journal.
        """
        answers = model.batcher.answer_at_once(rows)
        now, moment = Micros(time.time_ns() // 1000), time.perf_counter()
        name, version = model.schema.name, model.schema.version
        made = [
            Prediction(id_, name, version, row, answer, now, int((moment - received_at) * 1e6), request_id)
            for row, answer, (id_, request_id, received_at) in zip(rows, answers, calls, strict=True)
        ]
        await self._journal.append(insert, made, ledger=True, spool=insert)
        return made

    def follow(self, model: Model, rows: Sequence[Prediction]) -> None:
        """Do what comes behind the commit: count the values, and let shadows repeat the rows."""
        model.values.observe(rows)
        if self._shadows is not None:
            self._shadows.offer(model, rows)

    async def _make(
        self,
        model: Model,
        request: PredictRequest,
        fresh: Sequence[int],
        request_id: str,
        source: str,
        received_at: float,
    ) -> list[Prediction]:
        """The fresh rows answered by the model, then stored.

        One future for both stations: to be woken between them would cost as much as either.
        """
        stored = self._journal.new_future()
        rows: list[Prediction] = []

        def store(answers: list[Answer]) -> None:
            rows.extend(_rows(model, request, fresh, answers, request_id, source, received_at))
            self._journal.submit(insert, rows, stored, ledger=True, spool=insert)

        model.batcher.submit([request.rows[index] for index in fresh], stored, store)
        await stored
        return rows

    async def _replays(self, model: Model, request: PredictRequest, chosen: Sequence[str]) -> dict[str | None, Stored]:
        """The stored predictions among the chosen ids; the same features must have been sent before."""
        found = await self._stored.find(chosen)
        for prediction_id, row in zip(request.ids, request.rows, strict=True):
            stored = found.get(prediction_id) if prediction_id else None
            if stored and not _same_features(stored, model.schema.feature_names, row):
                raise Conflict(f"prediction_id {prediction_id} is stored with other features")
        return dict(found.items())

    @asynccontextmanager
    async def _claimed(self, ids: Sequence[str]) -> AsyncIterator[None]:
        """Own the ids in this process: of two callers with one id, the second waits, and is then a replay."""
        while earlier := [self._claims[prediction_id] for prediction_id in ids if prediction_id in self._claims]:
            await asyncio.wait(earlier)
        claim = asyncio.get_running_loop().create_future()
        self._claims.update(dict.fromkeys(ids, claim))
        try:
            yield
        finally:
            for prediction_id in ids:
                del self._claims[prediction_id]
            claim.set_result(None)


def _rows(
    model: Model,
    request: PredictRequest,
    fresh: Sequence[int],
    answers: Sequence[Answer],
    request_id: str,
    source: str,
    received_at: float,
) -> list[Prediction]:
    """The rows to store: one for each fresh row of the request and its answer."""
    now = Micros(time.time_ns() // 1000)
    latency_us = int((time.perf_counter() - received_at) * 1e6)
    name, version = model.schema.name, model.schema.version
    return [
        Prediction(
            request.ids[index] or new_id(),
            name,
            version,
            request.rows[index],
            answer,
            now,
            latency_us,
            request_id,
            source,
            context=request.contexts[index],
        )
        for index, answer in zip(fresh, answers, strict=True)
    ]


def _same_features(stored: Stored, names: Sequence[str], row: Row) -> bool:
    """Whether a stored row has these features, under whatever version it was stored."""
    before = stored.schema.get("features", names)
    return dict(zip(before, stored.prediction.features, strict=False)) == dict(zip(names, row, strict=True))
