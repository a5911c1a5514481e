"""``POST /outcome``: the truth about one prediction or many."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, TypeAlias, cast

import orjson
from typing_extensions import TypedDict

from app.api.dependencies import Services
from app.api.endpoints.outcome_schema import parse_outcomes
from app.api.http import Call, Reply, render_error
from app.config.settings import Config
from app.errors import Conflict, FieldError, Invalid, NotFound, RequestError, TooLarge, Unavailable
from app.store.database import Connection
from app.store.journal.spool import hold
from app.store.queries.outcomes import PENDING_FULL, Rules, Submission, writer
from app.types import Micros, Outcome, OutcomeResult, OutcomeStatus, normalise_label

MAX_OUTCOMES_PER_STATEMENT = 256


class OutcomeTaken(TypedDict):
    """The status of one outcome."""

    prediction_id: str
    status: Literal["matched", "duplicate", "revised", "pending"]


class OutcomeItem(TypedDict):
    """The status of one outcome of many.

    ``detail`` says why it was not taken, or that its class is not known.
    """

    prediction_id: str
    status: OutcomeStatus
    detail: str | None


class OutcomesTaken(TypedDict):
    """The statuses of many outcomes, in their order, and the number of each status."""

    results: list[OutcomeItem]
    counts: dict[OutcomeStatus, int]


def recorder(config: Config) -> Callable[[Connection, Sequence[Submission]], list[OutcomeResult]]:
    """The function that writes outcomes into the store, by the configured rules."""
    rules = config.outcomes
    return writer(Rules(normalise_label, hold=rules.unknown == "hold", max_pending=rules.max_pending))


Parsed: TypeAlias = Submission | list[Submission | OutcomeResult]
"""One outcome, or a list with a result already for each that is invalid."""


class OutcomeHandler:
    """Outcomes: single ones are recorded together, a list is a group of its own."""

    parameters: tuple[str, ...] = ()

    def __init__(self, services: Services) -> None:
        self._max_rows = services.config.serving.max_queue_rows
        self.max_group = min(MAX_OUTCOMES_PER_STATEMENT, self._max_rows)
        self._journal = services.journal
        self._counted = services.metrics.outcomes
        self._write = recorder(services.config)

    def decode(self, call: Call, body: bytes) -> Parsed:
        """The outcomes in a request; in a list the invalid ones stay where they are.

        Raises:
            Invalid: see the schema.
            TooLarge: more outcomes than the journal takes.
        """
        now = Micros(time.time_ns() // 1000)
        parsed = parse_outcomes(body, now, most=self._max_rows)
        if not isinstance(parsed, list):
            return Submission(parsed, now, call.key_name, call.key_model)
        if len(parsed) > self._max_rows:
            raise TooLarge(f"{len(parsed)} outcomes in one request; serving.max_queue_rows is the limit")
        by = (call.key_name, call.key_model)
        return [Submission(item, now, *by) if isinstance(item, Outcome) else item for item in parsed]

    def group_of(self, item: Parsed) -> Hashable:
        """Single outcomes are recorded together."""
        return None if isinstance(item, list) else True

    async def handle(self, _calls: Sequence[Call], items: Sequence[Parsed]) -> list[list[OutcomeResult] | Exception]:
        """Record the outcomes in one transaction; where that fails, those of each request alone."""
        try:
            return [*await self._record(items)]
        except Unavailable:
            raise
        except Exception:
            if len(items) == 1:
                raise
        alone = await asyncio.gather(*(self._record([item]) for item in items), return_exceptions=True)
        return [result if isinstance(result, Exception) else cast("Any", result)[0] for result in alone]

    async def _record(self, items: Sequence[Parsed]) -> list[list[OutcomeResult]]:
        listed = [item if isinstance(item, list) else [item] for item in items]
        submissions = [one for item in listed for one in item if isinstance(one, Submission)]
        recorded = await self._journal.append(self._write, submissions, spool=hold) if submissions else []
        rest = iter(recorded)
        return [[next(rest) if isinstance(one, Submission) else one for one in item] for item in listed]

    def render(
        self, calls: Sequence[Call], items: Sequence[Parsed], results: Sequence[list[OutcomeResult]]
    ) -> list[Reply]:
        """Render the status of each outcome."""
        for call, item in zip(calls, items, strict=True):
            _note_id(call, item)
        for status, number in Counter([each.status for result in results for each in result]).items():
            self._counted[status].inc(number)
        return [
            _listed(result) if isinstance(item, list) else _reply(call, result[0])
            for call, item, result in zip(calls, items, results, strict=True)
        ]

    def count_failure(self, call: Call, item: Parsed | None, error: BaseException) -> None:
        """Requests that fail are counted by the rules of the service alone."""
        del error
        _note_id(call, item)


def _note_id(call: Call, item: Parsed | None) -> None:
    """Let the log line of a single outcome name its prediction."""
    if isinstance(item, Submission):
        call.notes = {"prediction_id": item.outcome.prediction_id}


def _listed(results: Sequence[OutcomeResult]) -> Reply:
    counts = Counter([result.status for result in results])
    return Reply(200, orjson.dumps({"results": results, "counts": counts}, option=orjson.OPT_NON_STR_KEYS))


def _reply(call: Call, result: OutcomeResult) -> Reply:
    try:
        _raise_refusal(result)
    except RequestError as error:
        return render_error(error, call.request_id)
    return _taken(result)


def _taken(result: OutcomeResult) -> Reply:
    return Reply(200, orjson.dumps({"prediction_id": result.prediction_id, "status": result.status}))


def _raise_refusal(result: OutcomeResult) -> None:
    """A single outcome that was not taken is an error; in a list it is a line of the answer."""
    if result.detail is None:
        return
    detail = result.detail
    if detail == PENDING_FULL:
        raise Unavailable(detail)
    match result.status:
        case OutcomeStatus.UNKNOWN:
            raise NotFound(detail)
        case OutcomeStatus.CONFLICT:
            raise Conflict(detail)
        case OutcomeStatus.INVALID:
            raise Invalid(
                [FieldError("outcome", detail.removeprefix("expected "), "cannot be the truth of this prediction")]
            )
