"""The body of POST /outcome: a quick decoder for plain ones, and a validator for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from app.api.dependencies import Moment
from app.errors import FieldError, Invalid, TooLarge
from app.serving.validation import fast_decoder
from app.serving.validation.errors import (
    LONG_INTEGER,
    MAX_AROUND_BYTES,
    MAX_ERRORS,
    MAX_ID_BYTES,
    count_keys,
    kind,
    not_exact,
    refuse_duplicate_keys,
    refuse_rounded,
    rounded,
)
from app.serving.validation.fast_decoder import MAX_EXACT, NUL, REFUSED, containers, count_values, is_long, outline
from app.serving.validation.validator import Flag, Integer, Number, PredictionId, Text
from app.types import PREDICTION_ID, Micros, Outcome, OutcomeResult, OutcomeStatus, from_datetime


class _Body(Struct, forbid_unknown_fields=True, gc=False):
    prediction_id: fast_decoder.PredictionId
    outcome: bool | fast_decoder.Integer | float | fast_decoder.Text
    value: Annotated[float, Meta(gt=-MAX_EXACT, lt=MAX_EXACT)] | UnsetType | None = UNSET
    revise: bool | UnsetType = UNSET


_DECODER = Decoder(_Body)


def read_outcome(body: bytes) -> Outcome | None:
    """The outcome, or None where it must be read with care.

    Each key brings a colon, so a body with as many colons as keys repeats none.

    >>> read_outcome(b'{"prediction_id": "p", "outcome": 1.0}')
    Outcome(prediction_id='p', outcome=1.0, observed_at=None, value=None, revise=False)
    """
    try:
        found = _DECODER.decode(body)
    except REFUSED:
        return None
    if type(found.outcome) is float and not -MAX_EXACT < found.outcome < MAX_EXACT:
        return None
    given = {name: value for name in ("value", "revise") if (value := getattr(found, name)) is not UNSET}
    if body.count(b":") != 2 + len(given) or NUL in body:
        return None
    return Outcome(found.prediction_id, found.outcome, **given)


CLOCK_SKEW = timedelta(minutes=5) // timedelta(microseconds=1)
"""How far an ``observed_at`` may lie in the future, in microseconds: clocks differ, prophecies are refused."""
_INFINITE = "NaN and Infinity, or a number too large for a double, are refused"
_EXPECTED = {
    "body": "an object",
    "prediction_id": "text of 1 to 128 letters, digits and . _ : -",
    "revise": "true or false",
    "outcome": "a class label or a finite number",
    "value": "a finite number",
    "observed_at": "an RFC 3339 time with its zone",
}


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


class _ValidOutcomes(OutcomesBody):
    """Many outcomes, all of them good: the case that must be quick."""

    outcomes: Annotated[list[OutcomeBody], Field(min_length=1, fail_fast=True)]


_NUMBERS = {"outcome", "value"}
_ONE = TypeAdapter(OutcomeBody)
_MANY = TypeAdapter(OutcomesBody)
_VALID = TypeAdapter(_ValidOutcomes)


MAX_OUTCOME_BYTES = 16_384
"""The longest that one outcome can be: text of which each character is escaped."""
MAX_PROBLEMS = 5
"""Wrong fields of one outcome of many that its line names."""


class _Parts(Struct, forbid_unknown_fields=True):
    """The items of a list form, unread.

    To build all keys of a hostile one takes ten times its size.
    """

    outcomes: Raw


class _Id(Struct):
    prediction_id: Raw = Raw(b'""')


_PARTS, _ITEMS, _ID = Decoder(_Parts), Decoder(list[Raw]), Decoder(_Id)
MAX_ITEM_VALUES = 16
"""Values that one outcome has at most, and some to be refused by their names."""


def parse_outcomes(body: bytes, now: Micros, *, most: int = 2**31) -> Outcome | list[Outcome | OutcomeResult]:
    """One outcome, or of the list form each item as an outcome or as the reason why it is none.

    Args:
        most: outcomes that are taken at once.

    Raises:
        TooLarge: there are more, whatever they are.
        Invalid: naming every wrong field of the single form, or what makes the list form no list.
    """
    if len(body) > MAX_OUTCOME_BYTES:
        if (large := _large(body, now, most)) is not None:
            return large
    elif (quick := read_outcome(body)) is not None:
        return quick
    if b'"outcomes"' in body and (many := _many(body, now)) is not None:
        return many
    try:
        parsed = _ONE.validate_json(body)
    except ValidationError as error:
        raise Invalid(_field_errors(error)) from None
    _refuse_duplicates(body, [parsed], around=0)
    refuse_rounded(body, parsed.model_dump(exclude_unset=True, include=_NUMBERS))
    return _outcome(parsed, now)


def _large(body: bytes, now: Micros, most: int) -> list[Outcome | OutcomeResult] | None:
    """The items of a large body, one by one; None where all are good, and may be read together."""
    expected = "one outcome, or a list of them in `outcomes`"
    too_many = f"more than {most} outcomes in one request; serving.max_queue_rows is the limit"
    try:
        listed = bytes(_PARTS.decode(body).outcomes)
        if containers(body, most + 8) > most + 8:
            raise TooLarge(too_many)
        if len(body) - len(listed) > MAX_AROUND_BYTES and outline(body) != b":":
            raise Invalid([FieldError("outcomes", "this field once", "is written more than once")])
        if is_long(listed, most):
            raise TooLarge(too_many)
        items = _ITEMS.decode(listed)
        if len(items) > most:
            raise TooLarge(too_many)
    except REFUSED as error:
        raise Invalid([FieldError("body", expected, str(error)[:MAX_REASON])]) from None
    if not any(_is_wide(bytes(item)) for item in items):
        with suppress(ValidationError):
            _VALID.validate_json(body)
            return None
    return [_raw_item(bytes(item), now) for item in items]


def _is_wide(item: bytes) -> bool:
    """Whether an item is larger than one outcome can be."""
    return len(item) > MAX_OUTCOME_BYTES or count_values(item, MAX_ITEM_VALUES) > MAX_ITEM_VALUES


def _raw_item(raw: bytes, now: Micros) -> Outcome | OutcomeResult:
    if _is_wide(raw):
        return _refused(_id_of(raw), [FieldError("outcomes", "one outcome", "it is larger than one can be")])
    try:
        item = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        return _refused("", [FieldError("outcomes", "JSON in UTF-8", str(error)[:MAX_REASON])])
    refuse_duplicate_keys(raw, count_keys(item) if isinstance(item, dict | list) else 0)
    return _item(item, now)


def _id_of(raw: bytes) -> str:
    """The id in an item that is not built; empty where it has none."""
    try:
        id_ = bytes(_ID.decode(raw).prediction_id)
    except REFUSED:
        return ""
    shown = id_[1:-1].decode("ascii", "replace") if len(id_) <= MAX_ID_BYTES else ""
    return shown if PREDICTION_ID.fullmatch(shown) else ""


MAX_REASON = 300


def _many(body: bytes, now: Micros) -> list[Outcome | OutcomeResult] | None:
    """The items of a list form; None where the body is the single form after all."""
    try:
        items = _VALID.validate_json(body).outcomes if LONG_INTEGER.search(body) is None else None
    except ValidationError:
        items = None
    if items is None:
        raw = _raw_items(body)
        return None if raw is None else [_item(item, now) for item in raw]
    _refuse_duplicates(body, items, around=1)
    return [_judged(item, now) for item in items]


def _raw_items(body: bytes) -> list[Any] | None:
    try:
        raw = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Invalid(_not_finite(body) or [FieldError("body", "JSON in UTF-8", str(error))]) from None
    if not isinstance(raw, dict) or "outcomes" not in raw:
        return None
    refuse_duplicate_keys(body, count_keys(raw))
    try:
        return _MANY.validate_python(raw).outcomes
    except ValidationError as error:
        raise Invalid(_field_errors(error)) from None


def _not_finite(body: bytes) -> list[FieldError]:
    """Name the places of NaN and Infinity, where nothing else keeps the body from being JSON."""
    try:
        raw = from_json(body, allow_inf_nan=True)
    except ValueError:
        return []
    items = raw.get("outcomes") if isinstance(raw, dict) else None
    places = (
        (f"outcomes.{place}.{name}", name)
        for place, item in enumerate(items if isinstance(items, list) else ())
        for name, value in (item.items() if isinstance(item, dict) else ())
        if isinstance(value, float) and not math.isfinite(value)
    )
    return [FieldError(path, _EXPECTED.get(name, "JSON"), _INFINITE) for path, name in islice(places, MAX_ERRORS)]


def _item(item: Any, now: Micros) -> Outcome | OutcomeResult:
    try:
        parsed = _ONE.validate_python(item)
    except ValidationError as error:
        prediction_id = item.get("prediction_id") if isinstance(item, dict) else None
        shown = prediction_id if isinstance(prediction_id, str) and PREDICTION_ID.fullmatch(prediction_id) else ""
        return _refused(shown, _field_errors(error))
    numbers = parsed.model_dump(exclude_unset=True, include=_NUMBERS)
    if found := list(rounded(numbers, {name: item[name] for name in numbers})):
        return _refused(parsed.prediction_id, [not_exact(field) for field in found])
    return _judged(parsed, now)


def _judged(parsed: OutcomeBody, now: Micros) -> Outcome | OutcomeResult:
    try:
        return _outcome(parsed, now)
    except Invalid as error:
        return _refused(parsed.prediction_id, error.fields)


def _refused(prediction_id: str, problems: Sequence[FieldError]) -> OutcomeResult:
    listed = Invalid(problems).fields[:MAX_PROBLEMS]
    detail = "; ".join(f"{problem.field}: expected {problem.expected}, {problem.reason}" for problem in listed)
    if len(problems) > MAX_PROBLEMS:
        detail += f"; and {len(problems) - MAX_PROBLEMS} more"
    return OutcomeResult(prediction_id, OutcomeStatus.INVALID, detail)


def _outcome(body: OutcomeBody, now: Micros) -> Outcome:
    observed_at = None if body.observed_at is None else from_datetime(body.observed_at)
    if observed_at is not None and observed_at > now + CLOCK_SKEW:
        raise Invalid([FieldError("observed_at", "a time that has passed", "it lies in the future")])
    if observed_at is not None and observed_at < 0:
        raise Invalid([FieldError("observed_at", "a time since 1970", "it lies before")])
    return Outcome(body.prediction_id, body.outcome, observed_at, body.value, body.revise)


def _refuse_duplicates(body: bytes, items: Sequence[OutcomeBody], *, around: int) -> None:
    """Refuse repeated keys, with ``around`` keys around the items.

    Every key and every text has two quotation marks, so a body with as many as its parsed form needs repeats no key;
    only otherwise (a repeated key, or a quotation mark inside text) is it read again.
    """
    keys = around + sum([len(item.model_fields_set) for item in items])
    texts = sum([1 + isinstance(item.outcome, str) + (item.observed_at is not None) for item in items])
    if body.count(b'"') != 2 * (keys + texts):
        refuse_duplicate_keys(body, count_keys(from_json(body)))


def _field_errors(error: ValidationError) -> list[FieldError]:
    """Reduce the errors to one a field.

    A label is refused by each of its types, and a number that is not finite by the one.
    """
    found: dict[str, FieldError] = {}
    for item in error.errors(include_url=False):
        problem = _field_error(item)
        if item["type"] == "finite_number" or problem.field not in found:
            found[problem.field] = problem
    return list(found.values())


def _field_error(error: ErrorDetails) -> FieldError:
    field = str(error["loc"][0]) if error["loc"] else "body"
    if error["type"] == "json_invalid":
        return FieldError("body", "JSON in UTF-8", error["msg"])
    if error["type"] == "finite_number":
        return FieldError(field, _EXPECTED.get(field, error["msg"]), _INFINITE)
    if error["type"] == "extra_forbidden":
        return FieldError(field, "a known field", "unknown field")
    if field in _EXPECTED and error["type"].endswith("_type"):
        return FieldError(field, _EXPECTED[field], f"got {kind(error['input'])}")
    reason = "is missing" if error["type"] == "missing" else f"got {kind(error['input'])}: {error['msg']}"
    return FieldError(field, _EXPECTED.get(field, error["msg"]), reason)
