"""Errors of a body, field by field, and duplicate keys."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json

from app.errors import MAX_FIELDS, FieldError, Invalid, TooLarge
from app.serving.validation.fast_decoder import TEXT, containers, count_values, is_long, outline, structure
from app.types import MAX_TEXT, Feature, FeatureType, Json, ModelSchema

MAX_ERRORS = MAX_FIELDS - 1
"""Wrong fields that are looked for; one more line of the answer says that there are others."""
MAX_SMALL_BYTES = 32_768
"""Up to this size, a body is read as a whole, whatever is in it."""
MAX_FIELD_BYTES = 6 * (MAX_TEXT + 128) + 64
"""The longest a key with its value can be: text of which each character is escaped."""
MAX_ID_BYTES = 6 * 128 + 2
MAX_AROUND_BYTES = 256
"""Bytes around the parts of a body in which nothing is hidden, such as a part that is written twice."""
MAX_CONTEXT_VALUES = 16
_KEY = re.compile(rb'"((?:[^"\\]|\\.){0,200})"\s*:', re.DOTALL)
_FIRST_ROW = re.compile(rb'"instances"\s*:\s*\[\s*+([\[{](?:[^\[\]{}"]++|%b)*+[\]}])' % TEXT, re.DOTALL)


class _Parts(msgspec.Struct, forbid_unknown_fields=True):
    """The parts of a body, unread.

    To build all keys of a hostile one takes ten times its size.
    """

    features: Raw | UnsetType = UNSET
    instances: Raw | UnsetType = UNSET
    prediction_id: Raw | UnsetType = UNSET
    prediction_ids: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET
    contexts: Raw | UnsetType = UNSET

    def raw(self, name: str) -> bytes:
        """One part; ``null`` where it is not there."""
        part = getattr(self, name)
        return bytes(part) if isinstance(part, Raw) else b"null"

    def items(self, name: str) -> list[Raw]:
        """The items of a list, unread; none where it is no list."""
        part = self.raw(name)
        return msgspec.json.decode(part, type=list[Raw]) if part.startswith(b"[") else []


_EXPECTED = {
    FeatureType.NUMERIC: "a number",
    FeatureType.INTEGER: "a whole number",
    FeatureType.BOOLEAN: "true or false",
    FeatureType.CATEGORICAL: "text",
}
UNKNOWN_VALUE = "unknown_value"
"""The type of the error that a value is none of those that the model knows."""
MAX_NAMED = 20
"""Most known values that an error names."""
_KEYS = ("features", "instances", "prediction_id", "prediction_ids", "context", "contexts")


class Refusals:
    """Finds all that is wrong with a body that no form fits.

    Args:
        bodies: the forms of a whole body, by (many rows, rows in order).
        rows: the forms of one row, by whether it is in order.
        max_rows: rows that one request may have.
    """

    def __init__(
        self,
        schema: ModelSchema,
        bodies: Mapping[tuple[bool, bool], TypeAdapter[Any]],
        rows: Mapping[bool, TypeAdapter[Any]],
        max_rows: int,
    ) -> None:
        self._max_rows = max_rows
        self._features = {feature.name: feature for feature in schema.features}
        self._ordered = schema.features
        longest = max((len(name) for name in self._features), default=0)
        self._max_field_bytes = (
            MAX_FIELD_BYTES + 6 * longest + 6 * max((each.max_length for each in schema.features), default=0)
        )
        self._bodies = bodies
        self._rows = rows

    def refuse_crowd(self, body: bytes) -> None:
        """Refuse a large body of more rows than one request may have, before it is built.

        Each row and each context is one object or array.

        Raises:
            TooLarge: the first row is right.
            Invalid: it is not, or these are no rows.
        """
        most = 2 * self._max_rows + 8
        if containers(body, most) <= most:
            return
        first = _FIRST_ROW.search(body)
        found = self._of_raw_row(first[1], ("instances", 0)) if first else []
        if first and not found:
            raise TooLarge(f"more than {self._max_rows} rows in one request; serving.max_queue_rows is the limit")
        raise Invalid([*found, FieldError("body", f"at most {self._max_rows} rows", "has more objects and arrays")])

    def of_parts(self, body: bytes) -> list[FieldError]:
        """The findings on a large body before any part of it is built."""
        try:
            parts = msgspec.json.decode(body, type=_Parts)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return [FieldError("body", "an object with features, or with instances", str(error)[:300])]
        given = [name for name in _KEYS if getattr(parts, name) is not UNSET]
        if len(body) - sum(len(parts.raw(name)) for name in given) > MAX_AROUND_BYTES:
            keys = outline(body)
            if keys is None or keys.count(b":") > len(given):
                return [FieldError("body", "each field once", "a field is written more than once, or is nested deeply")]
        return self._of_lists(parts)

    def _of_lists(self, parts: _Parts) -> list[FieldError]:
        for name in ("instances", "prediction_ids", "contexts"):
            if is_long(parts.raw(name), self._max_rows):
                return [FieldError(name, f"a list of at most {self._max_rows}", "has more, or is nested too deeply")]
        contexts = [*parts.items("contexts"), Raw(parts.raw("context"))]
        if any(_is_wide(bytes(each)) for each in contexts):
            return [FieldError("contexts", "at most 16 values each", "one is larger than 16 values can be")]
        ids = [*parts.items("prediction_ids"), Raw(parts.raw("prediction_id"))]
        if any(len(bytes(each)) > MAX_ID_BYTES for each in ids):
            return [FieldError("prediction_ids", "at most 128 characters each", "one is longer")]
        return []

    def of_large(self, body: bytes) -> list[FieldError]:
        """The first wrong fields of a large body, read row by row; none in a sound one."""
        parts = msgspec.json.decode(body, type=_Parts)
        found: list[FieldError] = []
        for number, raw in enumerate(parts.items("instances")):
            found += self._of_raw_row(bytes(raw), ("instances", number))
            if len(found) >= MAX_ERRORS:
                break
        if parts.instances is UNSET or (parts.features is not UNSET and not found):
            found += self._of_raw_row(parts.raw("features"), ("features",))
        if len(found) > MAX_FIELDS:
            found = [*found[:MAX_ERRORS], FieldError("instances", "right rows", "there are more wrong fields")]
        return found

    def _of_raw_row(self, raw: bytes, place: tuple[int | str, ...]) -> list[FieldError]:
        prefix, features = ".".join(map(str, place)), len(self._features)
        most = features + MAX_ERRORS
        if len(raw) > (features + 1) * self._max_field_bytes or count_values(raw, most) > most:
            return self._of_wide_row(raw, prefix)
        try:
            row = from_json(raw, allow_inf_nan=True)
        except ValueError as error:
            return [FieldError(prefix, "JSON in UTF-8", str(error)[:300])]
        seen = _trimmed(row, self._features)
        found = _errors(self._rows[isinstance(row, list)], seen)[:MAX_ERRORS]
        told = [self._field_error({**error, "loc": (*place, *error["loc"])}) for error in found]
        if isinstance(row, dict) and len(row) > len(seen):
            told.append(FieldError(prefix, f"{features} features", f"and {len(row) - len(seen)} fields more"))
        return told

    def _of_wide_row(self, raw: bytes, prefix: str) -> list[FieldError]:
        """The findings on a row that is larger than one of this model can be; it is not built."""
        features = len(self._features)
        named = islice(_KEY.finditer(raw), 10 * (features + MAX_ERRORS))
        keys = (found[1].decode("utf-8", "replace") for found in named)
        unknown = list(islice((key for key in keys if key not in self._features), MAX_ERRORS))
        values = count_values(raw, 0)
        rest = max(values - features - len(unknown), 0)
        more = f"and some {rest} fields more" if rest else "and one is longer than it can be"
        known = [FieldError(f"{prefix}.{key}", "a field the model knows", "unknown field") for key in unknown]
        return [*known, FieldError(prefix, f"{features} features", more)]

    def explain(self, body: bytes) -> list[FieldError]:
        """Name the wrong fields, as many as :data:`MAX_ERRORS`, in the form that the caller meant."""
        try:
            raw = from_json(body, allow_inf_nan=True)
        except ValueError as error:
            return [FieldError("body", "JSON in UTF-8", str(error))]
        if not isinstance(raw, dict):
            return [FieldError("body", "an object with features, or with instances", f"got {kind(raw)}")]
        key = "instances" if "instances" in raw else "features"
        rows: Any = [raw.get("features")] if key == "features" else raw[key]
        ordered = isinstance(rows, list) and any(isinstance(row, list) for row in rows)
        found = _errors(self._bodies[key == "instances", ordered], _trimmed_body(raw))
        if key in raw and isinstance(rows, list) and rows:
            found = [error for error in found if error["loc"][:1] != (key,)]
            found += self._of_rows(rows, key, ordered=ordered)
        if not found:
            return [FieldError("body", "one form for all instances", "the instances differ in form")]
        listed = [self._field_error(error) for error in found[:MAX_ERRORS]]
        if len(found) > MAX_ERRORS:
            listed.append(FieldError(key, "right rows", f"and at least {_hidden(rows, found)} more"))
        return listed

    def _of_rows(self, rows: Sequence[Any], key: str, *, ordered: bool) -> list[ErrorDetails]:
        found: list[ErrorDetails] = []
        for number, row in enumerate(rows):
            place = (key,) if key == "features" else (key, number)
            row_errors = _errors(self._rows[ordered], _trimmed(row, self._features))
            found += [{**error, "loc": (*place, *error["loc"])} for error in row_errors]
            if len(found) >= MAX_ERRORS:
                break
        return found

    def _field_error(self, error: ErrorDetails) -> FieldError:
        path = [part for part in error["loc"] if part != "[key]"]
        feature = self._feature(path)
        field = ".".join(str(part) for part in path) or "body"
        expected = _EXPECTED[feature.type] + (" or null" if feature.nullable else "") if feature else error["msg"]
        if feature and error["type"] == UNKNOWN_VALUE:
            expected = f"one of {_listed(feature)}"
        match error["type"]:
            case "missing":
                return FieldError(field, expected if feature else "this field", "is missing")
            case "extra_forbidden":
                return FieldError(field, "a field the model knows", "unknown field")
            case "finite_number":
                return FieldError(field, expected, "NaN and Infinity, or a number too large for a double, are refused")
            case "less_than_equal" | "greater_than_equal" if feature:
                return FieldError(field, expected, f"beyond what the model takes: {error['msg']}")
            case "string_pattern_mismatch" if feature:
                return FieldError(field, expected, "the character NUL is refused")
        reason = f"got {kind(error['input'])}" if error["type"].endswith("_type") else error["msg"]
        return FieldError(field, expected, reason)

    def _feature(self, path: Sequence[int | str]) -> Feature | None:
        """Give the feature that an error's path ends in.

        It stands behind ``features``, or behind ``instances`` and a number.
        """
        depth = {"features": 1, "instances": 2}.get(str(path[0]), 99) if path else 99
        if len(path) <= depth:
            return None
        part = path[depth]
        if isinstance(part, int):
            return self._ordered[part] if part < len(self._ordered) else None
        return self._features.get(part)


def _is_wide(context: bytes) -> bool:
    """Whether a context is larger than one can be."""
    return len(context) > 17 * MAX_FIELD_BYTES or count_values(context, MAX_CONTEXT_VALUES) > MAX_CONTEXT_VALUES


def _hidden(rows: Sequence[Any], found: Sequence[ErrorDetails]) -> int:
    """The number of errors that are not listed, as far as it is known."""
    keys = len(rows[0]) if len(rows) == 1 and isinstance(rows[0], dict) else 0
    return max(keys, len(found)) - MAX_ERRORS


def json_type(feature: Feature) -> Json:
    """The JSON Schema of a feature's values."""
    names = {FeatureType.CATEGORICAL: "string", FeatureType.BOOLEAN: "boolean"}
    return {"type": names.get(feature.type, "number")}


def _listed(feature: Feature) -> str:
    """The values that the model knows, as many as an error names.

    >>> _listed(Feature("shop", FeatureType.CATEGORICAL, allowed=("s1", "s2")))
    "'s1', 's2'"
    """
    rest = len(feature.allowed) - MAX_NAMED
    named = ", ".join(map(repr, feature.allowed[:MAX_NAMED]))
    return f"{named} and {rest} more" if rest > 0 else named


def kind(value: object) -> str:
    """Give JSON's name for a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "an array"
    return "an object"


def _errors(adapter: TypeAdapter[Any], value: Any) -> list[ErrorDetails]:
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _trimmed(value: Any, known: Mapping[str, Any] | Sequence[str]) -> Any:
    """An object with its known keys and no more unknown ones than are worth naming."""
    if not isinstance(value, dict) or len(value) <= MAX_ERRORS:
        return value
    unknown = [key for key in value if key not in known][:MAX_ERRORS]
    return {key: value[key] for key in (*unknown, *(key for key in known if key in value))}


def _trimmed_body(raw: Json) -> Json:
    body = dict(_trimmed(raw, _KEYS))
    if isinstance(body.get("instances"), list):
        body["instances"] = body["instances"][:1]
    if isinstance(body.get("contexts"), list):
        body["contexts"] = [_trimmed(context, ()) for context in body["contexts"]]
    return {key: _trimmed(value, ()) if key in ("features", "context") else value for key, value in body.items()}


LONG_INTEGER = re.compile(rb"[\s:,\[]-?\d{16}")
"""Where a whole number may begin that a double does not hold: the smallest one is 2 ** 53 + 1."""


def refuse_rounded(body: bytes, parsed: Any) -> None:
    """Refuse a whole number that was rounded when it was read as a double.

    An id would become another one.

    Only a body with a number of 16 digits is read again.

    Raises:
        Invalid: naming the fields.
    """
    if LONG_INTEGER.search(body) is None:
        return
    if found := list(islice(rounded(parsed, from_json(body)), MAX_ERRORS)):
        raise Invalid([not_exact(field) for field in found])


def not_exact(field: str) -> FieldError:
    """The error of a whole number that would be rounded."""
    return FieldError(field, "a number that a double holds", "a whole number beyond 2 ** 53 that would be rounded")


def rounded(parsed: Any, raw: Any, path: str = "") -> Iterator[str]:
    """Name each place where a whole number has become another one.

    >>> list(rounded({"features": [1.0, 2.0**53]}, {"features": [1, 2**53 + 1]}))
    ['features.1']
    """
    if isinstance(parsed, dict):
        pairs = [(key, parsed[key], raw[key]) for key in parsed]
    elif isinstance(parsed, list | tuple):
        pairs = list(zip(range(len(parsed)), parsed, raw, strict=True))
    else:
        if type(raw) is int and type(parsed) is float and parsed != raw:
            yield path
        return
    for key, value, source in pairs:
        yield from rounded(value, source, f"{path}.{key}" if path else str(key))


def refuse_duplicate_keys(body: bytes, keys: int) -> None:
    """Refuse a body in which a key is repeated; ``keys`` is how many its parsed form has.

    Each key brings a colon, so a body with as many colons as its parsed form has keys repeats none; only otherwise (a
    repeated key, or a colon inside text) is the body looked at again, and a large one is not built for it.

    Raises:
        Invalid: naming the repeated keys.
    """
    if body.count(b":") == keys:
        return
    if len(body) > MAX_SMALL_BYTES:
        if structure(body).count(b":") == keys:
            return
        raise Invalid([FieldError("body", "each field once", "a field is written more than once")])
    repeated: set[str] = set()

    def collect(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) == len(pairs):
            return
        repeated.update(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)

    json.loads(body, object_pairs_hook=collect)
    if repeated:
        raise Invalid(
            [FieldError(key, "this field once", "is written more than once") for key in sorted(repeated)[:MAX_ERRORS]]
        )


def count_keys(data: Any) -> int:
    """The keys of all objects in parsed JSON.

    >>> count_keys({"a": [{"b": 1}, {"b": {}}]})
    3
    """
    if isinstance(data, dict):
        return len(data) + sum(count_keys(value) for value in data.values() if isinstance(value, (dict, list)))
    return sum(count_keys(value) for value in data if isinstance(value, (dict, list)))
