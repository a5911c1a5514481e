"""What a model takes no others of is refused to the caller, who is told what it knows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.errors import FieldError, Invalid
from app.serving.validation.validator import RequestValidator
from app.types import Feature, FeatureType, ModelSchema, Task

SHOPS = tuple(f"s{number}" for number in range(30))
TEXT = Feature("shop", FeatureType.CATEGORICAL, allowed=SHOPS)
CODES = Feature("zone", FeatureType.CATEGORICAL, categories=(1, 2), allowed=(1, 2))
WHOLE = Feature("store", FeatureType.INTEGER, allowed=(1, 2, 5), nullable=True)
FLAG = Feature("member", FeatureType.BOOLEAN, allowed=(True,))
LONG = Feature("note", FeatureType.CATEGORICAL, max_length=5000)


def validator(*features: Feature) -> RequestValidator:
    """A validator of a model with these features."""
    return RequestValidator(ModelSchema("m", "1", Task.BINARY, features, (0, 1), 1))


def refused(reader: RequestValidator, row: Any) -> list[FieldError]:
    """The wrong fields of a row, sent by name."""
    with pytest.raises(Invalid) as caught:
        reader.parse(json.dumps({"features": row}).encode())
    return list(caught.value.fields)


def taken(reader: RequestValidator, row: Any) -> list[Any]:
    """The values of a row that is taken, sent by name and in order alike."""
    [named] = reader.parse(json.dumps({"features": row}).encode()).rows
    [ordered] = reader.parse(json.dumps({"features": list(row.values())}).encode()).rows
    assert list(named) == list(ordered)
    return list(named)


@pytest.mark.parametrize(
    ("feature", "good", "bad"),
    [(TEXT, "s3", "s99"), (CODES, 2, 3), (WHOLE, 5, 3), (WHOLE, 2.0, 2.5), (WHOLE, None, 7), (FLAG, True, False)],
    ids=str,
)
def test_only_known_values_are_taken(feature: Feature, good: Any, bad: Any) -> None:
    """A value that the model knows is taken, be it text, code, number or boolean; any other is refused by field."""
    reader = validator(feature, Feature("x", FeatureType.NUMERIC))

    assert taken(reader, {feature.name: good, "x": 1.5}) == [good, 1.5]
    [error] = refused(reader, {feature.name: bad, "x": 1.5})
    assert (error.field, error.reason) == (f"features.{feature.name}", "is none that the model knows")


def test_known_values_are_named() -> None:
    """The answer names the known values, at most twenty of them, and never the value that was sent."""
    [few] = refused(validator(CODES), {"zone": "secret"})
    [many] = refused(validator(TEXT), {"shop": "secret"})

    assert few.expected == "one of 1, 2"
    assert many.expected == f"one of {', '.join(map(repr, SHOPS[:20]))} and 10 more"
    assert "secret" not in f"{few} {many}"


def test_other_types_are_refused_as_before() -> None:
    """A value of another type is told as such, also where only some values are known."""
    [error] = refused(validator(TEXT), {"shop": 3})

    assert (error.expected, error.reason) == ("text", "got a number")


def test_one_bad_row_of_many() -> None:
    """Of many rows, the one with the unknown value is named."""
    body = {"instances": [{"shop": "s1"}, {"shop": "s99"}, {"shop": "s2"}]}

    with pytest.raises(Invalid) as caught:
        validator(TEXT).parse(json.dumps(body).encode())

    assert [error.field for error in caught.value.fields] == ["instances.1.shop"]


def test_documentation_lists_known_values() -> None:
    """The JSON Schema of a request lists the values, as far as a person can read them."""
    [one, *_] = validator(CODES, Feature("x", FeatureType.NUMERIC)).json_schemas()
    [many, *_] = validator(Feature("id", FeatureType.CATEGORICAL, allowed=tuple(map(str, range(500))))).json_schemas()

    assert one["properties"]["features"]["properties"]["zone"] == {"enum": [1, 2], "title": "Zone"}
    assert many["properties"]["features"]["properties"]["id"]["type"] == "string"


def test_long_text() -> None:
    """A feature of free text takes as many characters as its schema says; others take 1,024."""
    short = Feature("name", FeatureType.CATEGORICAL)

    assert taken(validator(LONG), {"note": "x" * 5000}) == ["x" * 5000]
    assert refused(validator(LONG), {"note": "x" * 5001})[0].field == "features.note"
    assert refused(validator(short), {"name": "x" * 1025})[0].field == "features.name"


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[1]", "got an array"),
        ('{"a": 1}', "got an object"),
        ("1e400", "NaN and Infinity, or a number too large for a double, are refused"),
        ('"a\\u0000"', "text without the character NUL"),
        (f'"{"x" * 2000}"', "text of at most 1024 characters"),
    ],
)
def test_a_wrong_value_of_a_context_is_one_error(value: str, reason: str, many: bool) -> None:
    """It is named by its key, once, and not by the types that it may have."""
    form = '{"instances": [[1]], "contexts": [{"k": %s}]}' if many else '{"features": [1], "context": {"k": %s}}'
    with pytest.raises(Invalid) as caught:
        validator(Feature("x", FeatureType.NUMERIC)).parse((form % value).encode())
    [error] = caught.value.fields

    assert (error.field, error.reason) == ("contexts.0.k" if many else "context.k", reason)
    assert error.expected.startswith("text")
