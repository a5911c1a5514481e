"""``POST /outcome``: the truth about one prediction or many."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import orjson
from typing_extensions import TypedDict

from app.api.dependencies import Services
from app.api.endpoints.outcome_schema import parse_outcomes
from app.api.http import Call, Handler, Reply, read_json_body, render_error
from app.config.settings import Config
from app.errors import Conflict, FieldError, Invalid, NotFound, RequestError, TooLarge
from app.store.database import Connection
from app.store.journal.spool import hold
from app.store.queries.outcomes import Rules, Submission, writer
from app.types import Micros, Outcome, OutcomeResult, OutcomeStatus, normalise_label

MAX_OUTCOMES_PER_STATEMENT = 256


class OutcomeTaken(TypedDict):
    """What became of one outcome."""

    prediction_id: str
    status: Literal["matched", "duplicate", "revised", "pending"]


class OutcomeItem(TypedDict):
    """What became of one outcome of many; ``detail`` says why it was not taken."""

    prediction_id: str
    status: OutcomeStatus
    detail: str | None


class OutcomesTaken(TypedDict):
    """What became of many outcomes, in their order, and how many have each status."""

    results: list[OutcomeItem]
    counts: dict[OutcomeStatus, int]


def recorder(config: Config) -> Callable[[Connection, Sequence[Submission]], list[OutcomeResult]]:
    """What writes outcomes into the store, by the configured rules."""
    return writer(Rules(normalise_label, hold=config.outcomes.unknown == "hold"))


def outcome_handler(services: Services) -> Handler:
    """The handler of ``POST /outcome``."""
    limits = services.body_limits
    most = services.config.serving.max_queue_rows
    journal, counted = services.journal, services.metrics.outcomes
    write = recorder(services.config)

    async def outcome(call: Call) -> Reply:
        body = await read_json_body(call, limits)
        now = Micros(time.time_ns() // 1000)
        parsed = parse_outcomes(body, now)
        if isinstance(parsed, list):
            results = await _record(parsed, now, call)
            counts = Counter([result.status for result in results])
            for status, number in counts.items():
                counted[status].inc(number)
            return Reply(200, orjson.dumps({"results": results, "counts": counts}, option=orjson.OPT_NON_STR_KEYS))
        result = (await journal.append(write, [Submission(parsed, now, call.key_name)], spool=hold))[0]
        counted[result.status].inc()
        _raise_refusal(result)
        return _taken(result)

    async def _record(items: Sequence[Outcome | OutcomeResult], now: Micros, call: Call) -> list[OutcomeResult]:
        """Each item is judged by itself: the invalid ones stay where they are in the list."""
        if len(items) > most:
            raise TooLarge(f"{len(items)} outcomes in one request; serving.max_queue_rows is the limit")
        submissions = [Submission(item, now, call.key_name) for item in items if isinstance(item, Outcome)]
        recorded = await journal.append(write, submissions, spool=hold) if submissions else []
        if len(recorded) == len(items):
            return recorded
        rest = iter(recorded)
        return [next(rest) if isinstance(item, Outcome) else item for item in items]

    return outcome


class OutcomeBatch:
    """Single outcomes, recorded together."""

    def __init__(self, services: Services) -> None:
        self.most = min(MAX_OUTCOMES_PER_STATEMENT, services.config.serving.max_queue_rows)
        self._journal = services.journal
        self._counted = services.metrics.outcomes
        self._write = recorder(services.config)

    def read(self, calls: Sequence[Call]) -> list[Submission | None]:
        """The outcome in each request that is valid and has one."""
        now = Micros(time.time_ns() // 1000)
        return [self._submission(call, now) for call in calls]

    async def settle(self, _calls: Sequence[Call], items: Sequence[Submission]) -> list[OutcomeResult]:
        """Record them in one transaction."""
        return await self._journal.append(self._write, items, spool=hold)

    def replies(self, calls: Sequence[Call], done: Sequence[OutcomeResult]) -> list[Reply]:
        """What became of each."""
        for status, number in Counter([result.status for result in done]).items():
            self._counted[status].inc(number)
        return [_reply(call, result) for call, result in zip(calls, done, strict=True)]

    def _submission(self, call: Call, now: Micros) -> Submission | None:
        try:
            parsed = parse_outcomes(call.body or b"", now)
        except Invalid:
            return None
        return None if isinstance(parsed, list) else Submission(parsed, now, call.key_name)


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
    match result.status:
        case OutcomeStatus.UNKNOWN:
            raise NotFound(detail)
        case OutcomeStatus.CONFLICT:
            raise Conflict(detail)
        case OutcomeStatus.INVALID:
            raise Invalid(
                [FieldError("outcome", detail.removeprefix("expected "), "cannot be the truth of this prediction")]
            )
