"""Turn the bytes of a request into typed rows, or list everything that is wrong.

The validators are compiled from the model's schema when it is loaded. What is refused is what the model cannot take;
bounds, unseen categories and fractions in an integer feature are monitored, not refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, LiteralString, NotRequired, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from app.errors import FieldError, Invalid
from app.serving.validation.errors import (
    MAX_SMALL_BYTES,
    UNKNOWN_VALUE,
    Refusals,
    json_type,
    refuse_duplicate_keys,
    refuse_rounded,
)
from app.serving.validation.fast_decoder import MAX_CONTEXT_KEYS, NO_BOUNDS, QuickReader, may_have_wide_text
from app.types import MAX_TEXT, PREDICTION_ID, Feature, FeatureType, ModelSchema, PredictRequest

_NO_NUL = r"^[^\x00]*$"
Text = Annotated[str, Field(strict=True, max_length=MAX_TEXT, pattern=_NO_NUL)]
"""Text that both databases can hold; a lone surrogate is no JSON and never gets here."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Integer = Annotated[int, Field(strict=True, ge=-(2**63), lt=2**63)]
PredictionId = Annotated[str, Field(strict=True, pattern=f"^{PREDICTION_ID.pattern}$")]
ContextKey = Annotated[str, Field(strict=True, min_length=1, max_length=128, pattern=r"^[^\x00]*$")]
MAX_LISTED_VALUES = 100
"""Most values of a feature that the API documentation lists."""
SCALARS: LiteralString = "text, a number, true, false or null"


def _one_error(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:
    """Give a value of a context one error, where each type that it may have gives its own."""
    try:
        return inner(value)
    except ValidationError as refused:
        found = refused.errors(include_url=False)
    told = {error["type"]: error["msg"] for error in found if not error["type"].endswith("_type")}
    if "finite_number" in told:
        raise PydanticCustomError("finite_number", SCALARS)
    if "string_pattern_mismatch" in told:
        raise PydanticCustomError("scalar", "text without the character NUL")
    if "string_too_long" in told:
        raise PydanticCustomError("scalar", f"text of at most {MAX_TEXT} characters")
    raise PydanticCustomError("scalar_type", SCALARS)


Scalar = Annotated[Flag | Integer | Number | Text | None, WrapValidator(_one_error)]
Context: TypeAlias = dict[ContextKey, Scalar]


def _narrow(value: Any) -> Any:
    """Refuse an object with too many keys before its items are looked at."""
    if isinstance(value, dict) and len(value) > MAX_CONTEXT_KEYS:
        raise ValueError(f"at most {MAX_CONTEXT_KEYS} values")
    return value


Contexts = Annotated[Context, Field(max_length=MAX_CONTEXT_KEYS), BeforeValidator(_narrow)]

MAX_ROWS = 20_000
"""Rows that a request may have where the settings do not say."""
_STRICT: ConfigDict = {"extra": "forbid"}
_ONE = ((False, False), (False, True))
_MANY_FIRST = ((True, False), (True, True), *_ONE)
"""Forms to try, as (many rows, rows in order). The word "instances" can stand in a value too."""


class RequestValidator:
    """Compiled from one model version's schema.

    Knows the four forms of a request: one or many rows, by name or in order.

    Args:
        bounds: the largest size of a number that the model takes, by feature, where it takes not every double.
        max_rows: rows that one request may have.
    """

    def __init__(
        self, schema: ModelSchema, bounds: Mapping[str, float] = NO_BOUNDS, *, max_rows: int = MAX_ROWS
    ) -> None:
        self.schema = schema
        values = {feature.name: _value(feature, bounds.get(feature.name)) for feature in schema.features}
        named = typed_dict("Features", values)
        ordered: Any = tuple[tuple(values.values())]  # type: ignore[misc]  # as many as features
        self._adapters = {
            (False, False): TypeAdapter(one_row(named)),
            (False, True): TypeAdapter(one_row(ordered)),
            (True, False): TypeAdapter(many_rows(named)),
            (True, True): TypeAdapter(many_rows(ordered)),
        }
        self.quick: QuickReader | None
        try:
            self.quick = QuickReader(schema, bounds)
        except ValueError:
            self.quick = None
        rows = {False: TypeAdapter(named), True: TypeAdapter(ordered)}
        self._refusals = Refusals(schema, self._adapters, rows, max_rows)

    def parse(self, body: bytes) -> PredictRequest:
        """The rows of a request body.

        Raises:
            Invalid: naming every wrong field; the values themselves are not repeated.
            TooLarge: more rows than one request may have.
        """
        large = len(body) > MAX_SMALL_BYTES
        if large:
            self._refusals.refuse_crowd(body)
        is_quick = not large or (b'"instances"' in body and not may_have_wide_text(body))
        if self.quick and is_quick and (request := self.quick.read(body)):
            return request
        if large and (found := self._refusals.of_parts(body) or self._refusals.of_large(body)):
            raise Invalid(found)
        for form in _MANY_FIRST if b'"instances"' in body else _ONE:
            try:
                data = self._adapters[form].validate_json(body)
            except ValidationError:
                continue
            refuse_rounded(body, data)
            return self._many(data, body) if form[0] else self._one(data, body)
        raise Invalid(self._refusals.explain(body))

    def json_schemas(self) -> list[dict[str, Any]]:
        """JSON Schema of the four forms, each self-contained."""
        return [_inlined(adapter.json_schema()) for adapter in self._adapters.values()]

    def _one(self, data: dict[str, Any], body: bytes) -> PredictRequest:
        features, context = data["features"], data.get("context")
        named = type(features) is dict
        refuse_duplicate_keys(body, len(data) + len(context or ()) + (len(features) if named else 0))
        row = list(features.values()) if named else features
        return PredictRequest((row,), (data.get("prediction_id"),), (context,), many=False)

    def _many(self, data: dict[str, Any], body: bytes) -> PredictRequest:
        instances = data["instances"]
        objects = [data, data.get("context"), *(data.get("contexts") or ()), *instances]
        refuse_duplicate_keys(body, sum([len(item) for item in objects if isinstance(item, dict)]))
        rows = [list(row.values()) if isinstance(row, dict) else row for row in instances]
        context = data.get("context")
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


def typed_dict(name: str, fields: Mapping[str, Any]) -> Any:
    """A dictionary type with exactly these fields."""
    made = TypedDict(name, dict(fields))  # type: ignore[misc]  # noqa: UP013 - the fields are known at run time only
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
            "instances": Annotated[list[row], Field(min_length=1, fail_fast=True)],
            "prediction_ids": NotRequired[Annotated[list[PredictionId | None], Field(fail_fast=True)] | None],
            "context": NotRequired[Contexts | None],
            "contexts": NotRequired[Annotated[list[Contexts | None], Field(fail_fast=True)] | None],
        },
    )


def _given(value: list[Any] | None, default: list[Any]) -> list[Any]:
    return default if value is None else value


def _value(feature: Feature, bound: float | None) -> Any:
    number: Any = Number if bound is None else Annotated[Number, Field(ge=-bound, le=bound)]
    types = {
        FeatureType.NUMERIC: number,
        FeatureType.INTEGER: number,
        FeatureType.BOOLEAN: Flag,
        FeatureType.CATEGORICAL: Annotated[str, Field(strict=True, max_length=feature.max_length, pattern=_NO_NUL)],
    }
    coded = feature.type is FeatureType.CATEGORICAL and any(
        isinstance(category, int) for category in feature.categories
    )
    value: Any = Integer | types[FeatureType.CATEGORICAL] if coded else types[feature.type]
    if feature.allowed:
        value = Annotated[value, AfterValidator(_one_of(feature.allowed)), WithJsonSchema(_enumeration(feature))]
    return value | None if feature.nullable else value


def _one_of(values: Sequence[Any]) -> Callable[[Any], Any]:
    """A check that a value is one of those that the model knows."""
    known = frozenset(values)

    def check(value: Any) -> Any:
        if value not in known:
            raise PydanticCustomError(UNKNOWN_VALUE, "is none that the model knows")
        return value

    return check


def _enumeration(feature: Feature) -> dict[str, Any]:
    """The JSON Schema of a feature of which the model knows some values only."""
    return {"enum": list(feature.allowed)} if len(feature.allowed) <= MAX_LISTED_VALUES else json_type(feature)


def _inlined(schema: Any, definitions: Mapping[str, Any] | None = None) -> Any:
    """Replace the references in a JSON Schema; our schemas never refer to themselves."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    known = schema.get("$defs", definitions or {})
    if "$ref" in schema:
        return _inlined(known[schema["$ref"].rsplit("/", 1)[1]], known)
    return {key: _inlined(value, known) for key, value in schema.items() if key != "$defs"}
