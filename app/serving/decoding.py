"""The quick way to read a request: a decoder compiled from the schema, for bodies that have nothing special.

What it does not take (a mistake, a context, a repeated key) is left to :mod:`app.serving.validation`, which reads the
body again with care and can say what is wrong. It must therefore never take what validation refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

from app.ids import PREDICTION_ID
from app.serving.request import PredictRequest
from app.types import Feature, FeatureType, ModelSchema

Text = Annotated[str, Meta(max_length=1024)]
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
PredictionId = Annotated[str, Meta(pattern=rf"\A{PREDICTION_ID.pattern}\Z")]
_STRICT: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}


class QuickReader:
    """Reads plain bodies of one row or many, by name or in order.

    Raises:
        ValueError: a feature's name is not one that the decoder can look for.
    """

    def __init__(self, schema: ModelSchema) -> None:
        values = {f"f{position}": _value(feature) for position, feature in enumerate(schema.features)}
        names = dict(zip(values, schema.feature_names, strict=True))
        self._columns = len(names)
        self._named = named = msgspec.defstruct("Features", list(values.items()), rename=names, **_STRICT)
        row: Any = named | tuple[tuple(values.values())]  # type: ignore[misc]  # as many as features
        one_id, ids = PredictionId | None | UnsetType, list[PredictionId | None] | None | UnsetType
        one = msgspec.defstruct("One", [("features", row), ("prediction_id", one_id, UNSET)], **_STRICT)
        rows = Annotated[list[row], Meta(min_length=1)]
        many = msgspec.defstruct("Many", [("instances", rows), ("prediction_ids", ids, UNSET)], **_STRICT)
        self._decode_one = msgspec.json.Decoder(one).decode
        self._decode_many = msgspec.json.Decoder(many).decode

    def read(self, body: bytes) -> PredictRequest | None:
        """The request, or None where validation must have a look."""
        try:
            return self._many(body) if b'"instances"' in body else self._one(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _one(self, body: bytes) -> PredictRequest | None:
        found: Any = self._decode_one(body)
        features, prediction_id, keys = found.features, found.prediction_id, 1
        if type(features) is self._named:
            features, keys = astuple(features), 1 + self._columns
        if prediction_id is UNSET:
            prediction_id = None
        else:
            keys += 1
        return PredictRequest((features,), (prediction_id,), (None,), many=False) if _plain(body, keys) else None

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
        if ids is UNSET or ids is None:
            ids = [None] * len(rows)
        if len(ids) != len(rows) or _repeated(ids) or not _plain(body, keys):
            return None
        return PredictRequest(rows, ids, [None] * len(rows), many=True)


def _repeated(ids: Sequence[str | None]) -> bool:
    chosen = [prediction_id for prediction_id in ids if prediction_id is not None]
    return len(set(chosen)) != len(chosen)


def _plain(body: bytes, keys: int) -> bool:
    """Whether no key is repeated (each brings a colon), and no text holds the character that no database takes."""
    return body.count(b":") == keys and b"\\u0000" not in body


def _value(feature: Feature) -> Any:
    kinds: dict[FeatureType, Any] = {
        FeatureType.NUMERIC: float,
        FeatureType.INTEGER: float,
        FeatureType.BOOLEAN: bool,
        FeatureType.CATEGORICAL: Text,
    }
    coded = feature.type is FeatureType.CATEGORICAL and any(isinstance(known, int) for known in feature.categories)
    value: Any = Integer | Text if coded else kinds[feature.type]
    return value | None if feature.nullable else value
