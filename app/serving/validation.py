"""Turn the bytes of a request into typed rows, or into a list of everything that is wrong with them.

The validators are compiled from the model's schema when it is loaded. What is refused is what the model cannot take;
bounds, unseen categories and fractions in an integer feature are monitored, not refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json
from typing_extensions import TypedDict

from app.errors import FieldError, Invalid
from app.ids import PREDICTION_ID
from app.serving.duplicates import refuse_duplicate_keys
from app.types import Feature, FeatureType, ModelSchema, Row, Scalar

Text = Annotated[str, Field(strict=True, max_length=1024, pattern=r"^[^\x00]*$")]
"""Text that both databases can hold; a lone surrogate is no JSON and never gets here."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Integer = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
PredictionId = Annotated[str, Field(strict=True, pattern=f"^{PREDICTION_ID.pattern}$")]
ContextKey = Annotated[str, Field(strict=True, min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
Context: TypeAlias = dict[ContextKey, Flag | Integer | Number | Text | None]
Contexts = Annotated[Context, Field(max_length=16)]

_EXPECTED = {
    FeatureType.NUMERIC: "a number",
    FeatureType.INTEGER: "a whole number",
    FeatureType.BOOLEAN: "true or false",
    FeatureType.CATEGORICAL: "text",
}
_STRICT: ConfigDict = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """Validated rows in schema order.

    Attributes:
        ids: the caller's prediction ids, None where the caller chose none.
        many: whether the caller sent ``instances`` and is answered with a list.
    """

    rows: Sequence[Row]
    ids: Sequence[str | None]
    contexts: Sequence[Mapping[str, Scalar] | None]
    many: bool


class RequestValidator:
    """Compiled from one model version's schema.

    Knows the four forms of a request: one or many rows, by name or in order.
    """

    def __init__(self, schema: ModelSchema) -> None:
        self.schema = schema
        named = typed_dict("Features", {feature.name: _value(feature) for feature in schema.features})
        ordered = tuple[tuple(_value(feature) for feature in schema.features)]  # type: ignore[misc,valid-type]  # as many items as features
        self._adapters = {
            (False, False): TypeAdapter(one_row(named)),
            (False, True): TypeAdapter(one_row(ordered)),
            (True, False): TypeAdapter(many_rows(named)),
            (True, True): TypeAdapter(many_rows(ordered)),
        }

    def parse(self, body: bytes) -> PredictRequest:
        """The rows of a request body.

        Raises:
            Invalid: naming every wrong field; the values themselves are not repeated.
        """
        many = b'"instances"' in body  # the likelier forms first: the word can stand in a value too
        for form in ((many, False), (many, True), (not many, False), (not many, True)):
            try:
                data = self._adapters[form].validate_json(body)
            except ValidationError:
                continue
            return self._request(data, body, many=form[0])
        raise Invalid(self._explain(body))

    def json_schemas(self) -> list[dict[str, Any]]:
        """JSON Schema of the four forms, each self-contained."""
        return [_inlined(adapter.json_schema()) for adapter in self._adapters.values()]

    def _request(self, data: dict[str, Any], body: bytes, *, many: bool) -> PredictRequest:
        refuse_duplicate_keys(body, data)
        instances = data["instances"] if many else [data["features"]]
        rows = [list(row.values()) if isinstance(row, dict) else row for row in instances]
        context = data.get("context")
        if not many:
            return PredictRequest(rows, [data.get("prediction_id")], [context], many=False)
        ids = _given(data.get("prediction_ids"), [None] * len(rows))
        contexts = _given(data.get("contexts"), [context] * len(rows))
        problems = [
            *(
                [FieldError("prediction_ids", f"{len(rows)} ids, one an instance", f"got {len(ids)}")]
                if len(ids) != len(rows)
                else []
            ),
            *(
                [FieldError("contexts", f"{len(rows)} contexts, one an instance", f"got {len(contexts)}")]
                if len(contexts) != len(rows)
                else []
            ),
            *(
                [FieldError("contexts", "context or contexts", "both were sent")]
                if "context" in data and "contexts" in data
                else []
            ),
        ]
        chosen = [prediction_id for prediction_id in ids if prediction_id is not None]
        if len(set(chosen)) != len(chosen):
            problems.append(FieldError("prediction_ids", "every id once", "an id is repeated"))
        if problems:
            raise Invalid(problems)
        return PredictRequest(rows, ids, contexts, many=True)

    def _explain(self, body: bytes) -> list[FieldError]:
        """The slow path: find the form that the caller meant and list all that is wrong with it."""
        try:
            raw = from_json(body, allow_inf_nan=True)
        except ValueError as error:
            return [FieldError("body", "JSON in UTF-8", str(error))]
        if not isinstance(raw, dict):
            return [FieldError("body", "an object with features, or with instances", f"got {kind(raw)}")]
        many = "instances" in raw
        instances = raw.get("instances") if many else [raw.get("features")]
        ordered = isinstance(instances, list) and any(isinstance(row, list) for row in instances)
        try:
            self._adapters[many, ordered].validate_json(body)
        except ValidationError as error:
            return [self._field_error(item) for item in error.errors(include_url=False, include_context=True)]
        return [FieldError("body", "one form for all instances", "the instances differ in form")]

    def _field_error(self, error: ErrorDetails) -> FieldError:
        path = [part for part in error["loc"] if part not in ("[key]",)]
        feature = self._feature(path)
        field = ".".join(str(part) for part in path) or "body"
        expected = _expected(feature) if feature else error["msg"]
        match error["type"]:
            case "missing":
                return FieldError(field, expected if feature else "this field", "is missing")
            case "extra_forbidden":
                return FieldError(field, "a field the model knows", "unknown field")
            case "finite_number":
                return FieldError(field, expected, "NaN and Infinity, or a number too large for a double, are refused")
            case "string_pattern_mismatch" if feature:
                return FieldError(field, expected, "the character NUL is refused")
        reason = f"got {kind(error['input'])}" if error["type"].endswith("_type") else error["msg"]
        return FieldError(field, expected, reason)

    def _feature(self, path: Sequence[int | str]) -> Feature | None:
        """The feature that an error's path ends in: behind ``features``, or behind ``instances`` and a number."""
        depth = {"features": 1, "instances": 2}.get(str(path[0]), 99) if path else 99
        if len(path) <= depth:
            return None
        part = path[depth]
        if isinstance(part, int):
            return self.schema.features[part] if part < len(self.schema.features) else None
        return next((feature for feature in self.schema.features if feature.name == part), None)


def typed_dict(name: str, fields: Mapping[str, Any]) -> Any:
    """A dictionary type with exactly these fields."""
    made = TypedDict(name, dict(fields))  # type: ignore[misc]  # the fields are known at run time only
    made.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]  # where pydantic looks for it
    return made


def one_row(row: Any) -> Any:
    """The type of a request with one row."""
    return typed_dict(
        "PredictOne",
        {"features": row, "prediction_id": NotRequired[PredictionId | None], "context": NotRequired[Contexts | None]},
    )


def many_rows(row: Any) -> Any:
    """The type of a request with many rows."""
    return typed_dict(
        "PredictMany",
        {
            "instances": Annotated[list[row], Field(min_length=1)],
            "prediction_ids": NotRequired[list[PredictionId | None] | None],
            "context": NotRequired[Contexts | None],
            "contexts": NotRequired[list[Contexts | None] | None],
        },
    )


def _given(value: list[Any] | None, default: list[Any]) -> list[Any]:
    return default if value is None else value


def kind(value: object) -> str:
    """What JSON calls a value, without the value."""
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


def _value(feature: Feature) -> Any:
    types = {
        FeatureType.NUMERIC: Number,
        FeatureType.INTEGER: Number,
        FeatureType.BOOLEAN: Flag,
        FeatureType.CATEGORICAL: Text,
    }
    coded = feature.type is FeatureType.CATEGORICAL and any(
        isinstance(category, int) for category in feature.categories
    )
    value: Any = Integer | Text if coded else types[feature.type]
    return value | None if feature.nullable else value


def _expected(feature: Feature) -> str:
    return _EXPECTED[feature.type] + (" or null" if feature.nullable else "")


def _inlined(schema: Any, definitions: Mapping[str, Any] | None = None) -> Any:
    """A JSON Schema with its references replaced by what they refer to; ours never refer to themselves."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    known = schema.get("$defs", definitions or {})
    if "$ref" in schema:
        return _inlined(known[schema["$ref"].rsplit("/", 1)[1]], known)
    return {key: _inlined(value, known) for key, value in schema.items() if key != "$defs"}
