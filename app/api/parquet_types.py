"""The columns of an export with their types, by a model's schema: Arrow's names of types, and ``time``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from app.types import Feature, FeatureType, Label, ModelSchema, label_key

HEAD = ("prediction_id", "model_name", "model_version", "predicted_at", "prediction")
TAIL = ("outcome", "value", "observed_at")


def columns(schema: ModelSchema) -> list[tuple[str, str]]:
    """Name and type of every column: Arrow's names of types, and ``time``."""
    label = _type_of(schema.classes) if schema.classes else "double"
    return [
        *zip(HEAD, ("string", "string", "string", "time", label), strict=True),
        *((f"feature.{feature.name}", _type_of_feature(feature)) for feature in schema.features),
        *((f"probability.{label_key(each)}", "double") for each in schema.classes),
        *zip(TAIL, (label, "double", "time"), strict=True),
        ("context", "string"),
    ]


def _type_of_feature(feature: Feature) -> str:
    if feature.type is FeatureType.CATEGORICAL:
        return _type_of(feature.categories)
    return "bool" if feature.type is FeatureType.BOOLEAN else "double"


def _type_of(labels: tuple[Label, ...]) -> str:
    kinds = {type(label) for label in labels}
    return {bool: "bool", int: "int64", float: "double"}.get(kinds.pop(), "string") if len(kinds) == 1 else "string"


def _number(cell: Any) -> float | None:
    return float(cell) if isinstance(cell, int | float) else None


def _whole(cell: Any) -> int | None:
    return int(cell) if isinstance(cell, int | float) and int(cell) == cell else None


def _text(cell: Any) -> str | None:
    return cell if cell is None or isinstance(cell, str) else orjson.dumps(cell).decode()


def _flag(cell: Any) -> bool | None:
    return bool(cell) if cell in (0, 1) else None


def _time(cell: str | None) -> datetime | None:
    return None if cell is None else datetime.fromisoformat(cell)


CASTS: dict[str, Callable[[Any], Any]] = {
    "double": _number,
    "int64": _whole,
    "string": _text,
    "bool": _flag,
    "time": _time,
}
