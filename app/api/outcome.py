"""``POST /outcome``: the truth about one prediction or many."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from app.api.services import Services
from app.api.times import Moment
from app.api.wire import Call, Handler, Reply, read_json_body
from app.config import Config
from app.errors import Conflict, FieldError, Invalid, NotFound, TooLarge
from app.ids import PREDICTION_ID
from app.serving.answers import normalise_label
from app.serving.duplicates import count_keys, refuse_duplicate_keys
from app.serving.refusals import kind
from app.serving.validation import Flag, Integer, Number, PredictionId, Text
from app.store.engine import Connection
from app.store.outcomes import Rules, Submission, writer
from app.store.spool import hold
from app.types import Micros, Outcome, OutcomeResult, OutcomeStatus, from_datetime

CLOCK_SKEW = timedelta(minutes=5)
"""How far an ``observed_at`` may lie in the future: clocks differ, prophecies are refused."""


class OutcomeBody(BaseModel):
    """One outcome."""

    model_config = ConfigDict(extra="forbid", title="Outcome")

    prediction_id: PredictionId
    outcome: Annotated[Flag | Integer | Number | Text, Field(description="a class label, or a number")]
    observed_at: Moment | None = Field(None, description="when the truth was known; RFC 3339 with its zone")
    value: Annotated[Number | None, Field(description="a business amount, such as the profit or loss")] = None
    revise: Annotated[bool, Field(strict=True, description="replace another outcome of the same prediction")] = False


class OutcomesBody(BaseModel):
    """Many outcomes; a bad one never loses the others."""

    model_config = ConfigDict(extra="forbid", title="Outcomes")

    outcomes: Annotated[list[Any], Field(min_length=1)]


ONE = TypeAdapter(OutcomeBody)
MANY = TypeAdapter(OutcomesBody)


def recorder(config: Config) -> Callable[[Connection, Sequence[Submission]], list[OutcomeResult]]:
    """What writes outcomes into the store, by the configured rules."""
    hold_unknown = config.outcomes.unknown == "hold"
    return writer(Rules(lambda stored, label: normalise_label(stored.schema, label), hold=hold_unknown))


def outcome_handler(services: Services) -> Handler:
    """The handler of ``POST /outcome``."""
    limits = services.body_limits
    write = recorder(services.config)

    async def outcome(call: Call) -> Reply:
        body = await read_json_body(call, limits)
        now = Micros(time.time_ns() // 1000)
        if b'"outcomes"' in body and (many := _many(body)) is not None:
            results = await _record_many(many, now, call)
            counts = Counter(result.status.value for result in results)
            return Reply(200, orjson.dumps({"results": [_result(result) for result in results], "counts": counts}))
        submission = Submission(_outcome(_one(body), now), now, call.key_name)
        result = (await services.journal.append(write, [submission], spool=hold))[0]
        services.metrics.outcomes[result.status].inc()
        _raise_refusal(result)
        return Reply(200, orjson.dumps({"prediction_id": result.prediction_id, "status": result.status.value}))

    async def _record_many(items: list[Any], now: Micros, call: Call) -> list[OutcomeResult]:
        """Each item is judged by itself: the invalid ones stay where they are in the list."""
        if len(items) > services.config.serving.max_queue_rows:
            raise TooLarge(f"{len(items)} outcomes in one request; serving.max_queue_rows is the limit")
        checked = [_item(item, now) for item in items]
        submissions = [Submission(item, now, call.key_name) for item in checked if isinstance(item, Outcome)]
        recorded = iter(await services.journal.append(write, submissions, spool=hold) if submissions else [])
        results = [next(recorded) if isinstance(item, Outcome) else item for item in checked]
        for result in results:
            services.metrics.outcomes[result.status].inc()
        return results

    return outcome


def _one(body: bytes) -> OutcomeBody:
    try:
        parsed = ONE.validate_json(body)
    except ValidationError as error:
        raise Invalid([_field_error(item) for item in error.errors(include_url=False)]) from None
    refuse_duplicate_keys(body, count_keys(from_json(body)))
    return parsed


def _many(body: bytes) -> list[Any] | None:
    """The items of a list form; None where the body is the single form after all."""
    try:
        raw = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Invalid([FieldError("body", "JSON in UTF-8", str(error))]) from None
    if not isinstance(raw, dict) or "outcomes" not in raw:
        return None
    refuse_duplicate_keys(body, count_keys(raw))
    try:
        return MANY.validate_python(raw).outcomes
    except ValidationError as error:
        raise Invalid([_field_error(item) for item in error.errors(include_url=False)]) from None


def _item(item: Any, now: Micros) -> Outcome | OutcomeResult:
    try:
        return _outcome(ONE.validate_python(item), now)
    except ValidationError as error:
        problems = [_field_error(problem) for problem in error.errors(include_url=False)]
    except Invalid as error:
        problems = list(error.fields)
    prediction_id = item.get("prediction_id") if isinstance(item, dict) else None
    detail = "; ".join(f"{problem.field}: expected {problem.expected}, {problem.reason}" for problem in problems)
    shown = prediction_id if isinstance(prediction_id, str) and PREDICTION_ID.fullmatch(prediction_id) else ""
    return OutcomeResult(shown, OutcomeStatus.INVALID, detail)


def _outcome(body: OutcomeBody, now: Micros) -> Outcome:
    observed_at = None if body.observed_at is None else from_datetime(body.observed_at)
    if observed_at is not None and observed_at > now + CLOCK_SKEW // timedelta(microseconds=1):
        raise Invalid([FieldError("observed_at", "a time that has passed", "it lies in the future")])
    if observed_at is not None and observed_at < 0:
        raise Invalid([FieldError("observed_at", "a time since 1970", "it lies before")])
    return Outcome(body.prediction_id, body.outcome, observed_at, body.value, body.revise)


def _field_error(error: ErrorDetails) -> FieldError:
    field = str(error["loc"][0]) if error["loc"] else "body"
    if error["type"] == "json_invalid":
        return FieldError("body", "JSON in UTF-8", error["msg"])
    expected = {
        "outcome": "a class label or a finite number",
        "value": "a finite number",
        "observed_at": "an RFC 3339 time with its zone",
    }
    reason = {"missing": "is missing", "extra_forbidden": "unknown field"}.get(
        error["type"], f"got {kind(error['input'])}: {error['msg']}"
    )
    return FieldError(field, expected.get(field, error["msg"]), reason)


def _result(result: OutcomeResult) -> dict[str, str | None]:
    return {"prediction_id": result.prediction_id, "status": result.status.value, "detail": result.detail}


def _raise_refusal(result: OutcomeResult) -> None:
    """A single outcome that was not taken is an error; in a list it is a line of the answer."""
    detail = result.detail or ""
    match result.status:
        case OutcomeStatus.UNKNOWN:
            raise NotFound(detail)
        case OutcomeStatus.CONFLICT:
            raise Conflict(detail)
        case OutcomeStatus.INVALID:
            raise Invalid(
                [FieldError("outcome", detail.removeprefix("expected "), "cannot be the truth of this prediction")]
            )
