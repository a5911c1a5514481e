"""Read plain requests by a decoder that is compiled from the schema.

What it does not take (a mistake, a repeated key, contexts of many rows) is left to
:mod:`app.serving.validation.validator`, which reads the body again with care and can say what is wrong. It must
therefore never take what validation refuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType
from msgspec.structs import astuple

from app.types import PREDICTION_ID, Feature, FeatureType, ModelSchema, PredictRequest, Row

Text = Annotated[str, Meta(max_length=1024)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
PredictionId = Annotated[str, Meta(pattern=rf"\A{PREDICTION_ID.pattern}\Z")]
MAX_CONTEXT_KEYS = 16
ContextKey = Annotated[str, Meta(min_length=1, max_length=128)]
Context: Any = Annotated[dict[ContextKey, bool | Integer | float | Text | None], Meta(max_length=MAX_CONTEXT_KEYS)]
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises on a body that it does not take."""
NUL = b"\\u0000"
"""The character that no database takes, as JSON writes it."""
NO_BOUNDS: Mapping[str, float] = {}
MAX_EXACT = 2.0**53
"""Below it, a double holds every whole number; a larger one is left to validation, which sees what was rounded."""
_STRICT: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}


class QuickReader:
    """Reads plain bodies of one row or many, by name or in order.

    Raises:
        ValueError: a feature's name is not one that the decoder can look for.
    """

    def __init__(self, schema: ModelSchema, bounds: Mapping[str, float] = NO_BOUNDS) -> None:
        values = {
            f"f{position}": _value(feature, bounds.get(feature.name, MAX_EXACT))
            for position, feature in enumerate(schema.features)
        }
        names = dict(zip(values, schema.feature_names, strict=True))
        self._columns = len(names)
        self._takes_text = any(feature.type is FeatureType.CATEGORICAL for feature in schema.features)
        self._named = named = msgspec.defstruct("Features", list(values.items()), rename=names, **_STRICT)
        row: Any = named | tuple[tuple(values.values())]  # type: ignore[misc]  # as many as features
        one_id = PredictionId | None | UnsetType
        optional = [("prediction_id", one_id, UNSET), ("context", Context | None | UnsetType, UNSET)]
        one = msgspec.defstruct("One", [("features", row), *optional], **_STRICT)
        rows = Annotated[list[row], Meta(min_length=1)]
        many = msgspec.defstruct("Many", [("instances", rows), ("prediction_ids", Raw | UnsetType, UNSET)], **_STRICT)
        self._decode_one = msgspec.json.Decoder(one).decode
        self._decode_many = msgspec.json.Decoder(many).decode
        self._decode_ids = msgspec.json.Decoder(list[PredictionId | None] | None).decode

    def read(self, body: bytes) -> PredictRequest | None:
        """The request, or None where validation must have a look."""
        try:
            if b'"instances"' in body:
                return self._many(body)
            found: Any = self._decode_one(body)
        except REFUSED:
            return None
        chosen, context, keys = found.prediction_id, found.context, 1
        if chosen is UNSET:
            chosen = None
        else:
            keys += 1
        if context is UNSET:
            context = None
        else:
            keys += 1 + len(context or ())
        if context and NUL in body:
            return None
        row = self._row(found.features, body, keys)
        return None if row is None else PredictRequest((row,), (chosen,), (context,), many=False)

    def _row(self, features: Any, body: bytes, keys: int) -> Row | None:
        if type(features) is self._named:
            features, keys = astuple(features), keys + self._columns
        return features if self._is_plain(body, keys) else None

    def _many(self, body: bytes) -> PredictRequest | None:
        found: Any = self._decode_many(body)
        rows, ids, keys = found.instances, found.prediction_ids, 1
        forms = set(map(type, rows))
        if forms == {self._named}:
            rows, keys = list(map(astuple, rows)), 1 + self._columns * len(rows)
        elif len(forms) > 1:
            return None
        if ids is not UNSET:
            keys += 1
            ids = self._ids(bytes(ids), len(rows))
        if ids is UNSET or ids is None:
            ids = [None] * len(rows)
        if len(ids) != len(rows) or _repeated(ids) or not self._is_plain(body, keys):
            return None
        return PredictRequest(rows, ids, [None] * len(rows), many=True)

    def _ids(self, raw: bytes, rows: int) -> list[str | None] | None:
        """The ids, which have no commas in them.

        Where they are not as many as the rows they are not built, and there are none.
        """
        return self._decode_ids(raw) if raw == b"null" or raw.count(b",") == rows - 1 else []

    def _is_plain(self, body: bytes, keys: int) -> bool:
        """Tell whether no key is repeated and no text holds the NUL character.

        Each key brings a colon, so repeated keys show as too many colons.
        """
        return body.count(b":") == keys and not (self._takes_text and NUL in body)


def _repeated(ids: Sequence[str | None]) -> bool:
    chosen = [prediction_id for prediction_id in ids if prediction_id is not None]
    return len(set(chosen)) != len(chosen)


def _value(feature: Feature, bound: float) -> Any:
    if feature.allowed:
        return _allowed(feature)
    largest = min(bound, MAX_EXACT)
    number = Annotated[float, Meta(gt=-largest, lt=largest)]
    kinds: dict[FeatureType, Any] = {
        FeatureType.NUMERIC: number,
        FeatureType.INTEGER: number,
        FeatureType.BOOLEAN: bool,
        FeatureType.CATEGORICAL: Annotated[str, Meta(max_length=feature.max_length)],
    }
    coded = feature.type is FeatureType.CATEGORICAL and any(isinstance(known, int) for known in feature.categories)
    value: Any = Integer | kinds[FeatureType.CATEGORICAL] if coded else kinds[feature.type]
    return value | None if feature.nullable else value


def _allowed(feature: Feature) -> Any:
    """The type of a feature of which the model knows some values only.

    Raises:
        ValueError: they are numbers or booleans, of which the decoder knows no lists.
    """
    if not all(isinstance(value, str) for value in feature.allowed):
        raise ValueError(f"{feature.name} takes some numbers only")
    value: Any = Literal[feature.allowed]
    return value | None if feature.nullable else value


_PIECE_BYTES = 65_536
TEXT = rb'"(?:[^"\\]++|\\.)*+"'
_ONE_TEXT = re.compile(TEXT, re.DOTALL)
_TEXTS = re.compile(rb'(?:[^"]{0,%d}+%b){1,500}+' % (_PIECE_BYTES, TEXT), re.DOTALL)
_FLAT = re.compile(rb"[\[{][,:]*+[\]}]")
_OTHER = tuple(byte for byte in range(256) if byte not in b"[]{},:")
MAX_DEPTH = 4
"""Most objects and arrays in each other: a body, its list and a row of it; one more is to be refused by its name."""
WINDOW_BYTES = 8192
FREE_ITEMS = 100_000
"""Items that are not counted one by one: unread, they take 7 MiB."""


def structure(body: bytes) -> bytes:
    """The brackets, commas and colons of JSON, without those inside texts.

    >>> structure(b'{"a,b": [1, 2, "]"]}')
    b'{:[,,]}'
    """
    other, place = bytes(_OTHER), 0
    parts: list[bytes] = []
    while place < len(body):
        texts = _TEXTS.match(body, place)
        if texts is not None:
            parts.append(_ONE_TEXT.sub(b"", texts[0]).translate(None, other))
            place = texts.end()
            continue
        end = min(len(body), place + _PIECE_BYTES)
        quote = body.find(b'"', place, end)  # of a text without an end: nothing behind it is JSON
        parts.append(body[place : end if quote < 0 else quote].translate(None, other))
        place = end if quote < 0 else len(body)
    return b"".join(parts)


def outline(part: bytes) -> bytes | None:
    """The commas and colons of the outermost object or array alone.

    None where it is nested too deeply.

    >>> outline(b'{"instances": [[1, 2], [3, 4]], "context": {"a": 1}}')
    b':,:'
    """
    left = structure(part)[1:-1]
    for _ in range(MAX_DEPTH - 1):
        left = _FLAT.sub(b"", left)
    return None if left.translate(None, b",:") else left


def is_long(part: bytes, most: int) -> bool:
    """Whether a list has more than so many items, or is nested too deeply.

    A short one is not looked at.
    """
    if part.count(b",") <= FREE_ITEMS:
        return False
    items = outline(part)
    return items is None or items.count(b",") >= most


def containers(body: bytes, most: int) -> int:
    """Count the objects and arrays.

    Brackets inside texts count too, as long as that is not more than ``most``.
    """
    found = body.count(b"[") + body.count(b"{")
    if found <= most:
        return found
    marks = structure(body)
    return marks.count(b"[") + marks.count(b"{")


def count_values(part: bytes, most: int) -> int:
    """Count the values of a part of a body, wherever in it.

    Commas inside texts count too, as long as that is less than ``most``.

    >>> count_values(b'["a,b,c", 2]', 9), count_values(b'["a,b,c", 2]', 2)
    (4, 2)
    """
    commas = part.count(b",")
    return 1 + (commas if commas < most else structure(part).count(b","))


def may_have_wide_text(body: bytes) -> bool:
    """Whether a long text may take four times its bytes once it is built.

    No where all is ASCII, or each few thousand bytes have a quotation mark.
    """
    if body.isascii() and b"\\u" not in body:
        return False
    places = range(0, len(body) - WINDOW_BYTES, WINDOW_BYTES)
    return any(body.find(b'"', place, place + WINDOW_BYTES) < 0 for place in places)
