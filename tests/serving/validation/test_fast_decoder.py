"""The quick reader takes nothing that validation refuses, and reads it alike."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import Invalid
from app.serving.validation.fast_decoder import QuickReader
from app.serving.validation.validator import RequestValidator
from app.types import Feature, FeatureType, ModelSchema, PredictRequest, Task

SCHEMA = ModelSchema(
    "mixed",
    "1",
    Task.BINARY,
    (
        Feature("age", FeatureType.INTEGER),
        Feature("in come", FeatureType.NUMERIC, nullable=True),
        Feature("kündigt", FeatureType.BOOLEAN),
        Feature("channel", FeatureType.CATEGORICAL, nullable=True, categories=("web", "shop")),
        Feature("zone", FeatureType.CATEGORICAL, categories=(1, 2)),
    ),
    (0, 1),
    1,
)
NAMES = SCHEMA.feature_names
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["\x00", "web", [], {}, [1.0]]),
)
GOOD = st.tuples(
    st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none() | st.text(max_size=8),
    st.integers(-(2**63), 2**63 - 1) | st.text(max_size=3),
)
ROWS = GOOD | st.lists(VALUES, min_size=4, max_size=6)
NAMED = ROWS.map(lambda row: dict(zip(NAMES, row, strict=False)))
IDS = st.none() | st.sampled_from(["a", "b:c", "", "a\n", "ä"]) | st.integers()
CONTEXTS = st.none() | st.dictionaries(st.sampled_from(["", "a", "a:b", "ä", "\x00", "k" * 129]) | st.text(), VALUES)
ONE = st.fixed_dictionaries(
    {"features": ROWS | NAMED}, optional={"prediction_id": IDS, "context": CONTEXTS, "more": st.none()}
)
MANY = st.fixed_dictionaries(
    {"instances": st.lists(NAMED, max_size=3) | st.lists(ROWS, max_size=3) | st.lists(NAMED | ROWS, max_size=3)},
    optional={"prediction_ids": st.none() | st.lists(IDS, max_size=3), "features": ROWS},
)
QUICK, CAREFUL = QuickReader(SCHEMA), RequestValidator(SCHEMA)


def carefully(body: bytes) -> PredictRequest | None:
    """What validation alone reads; None where it refuses."""
    CAREFUL.quick = None
    try:
        return CAREFUL.parse(body)
    except Invalid:
        return None


def _typed(request: PredictRequest) -> list[tuple[type, Any]]:
    contexts = [value for context in request.contexts for value in (context or {}).values()]
    return [(type(value), value) for value in [*chain(*request.rows), *contexts]]


def same(one: PredictRequest, other: PredictRequest) -> bool:
    """Equal values of equal types."""
    values = [_typed(request) for request in (one, other)]
    return values[0] == values[1] and (list(one.ids), list(one.contexts), one.many) == (
        list(other.ids),
        list(other.contexts),
        other.many,
    )


@given(body=st.one_of(ONE, MANY).map(lambda data: json.dumps(data).encode()))
@settings(max_examples=400)
@example(body=b'{"features": [1, 1e999, true, "web", 1]}')
@example(body=b'{"features": [1, -0, true, "\\ud800", 1]}')
@example(body=b'{"features": [1, 2, true, "\\u0000", 1]}')
@example(body=b'{"features": [1, 2, true, "a", 1], "features": [1, 2, true, "b", 1]}')
@example(body=b'{"features": [1, 2, true, "a", 1]} x')
@example(body=json.dumps({"features": [1, 2, True, "a" * 1025, 1]}).encode())
@example(body=json.dumps({"features": [1, 2, True, "😀" * 1024, 1]}).encode())
@example(body=b"[" * 100_000)
@example(body=b'{"features": [1, 2, true, "a", 1], "context": {"a": 1, "a": 2}}')
@example(body=json.dumps({"features": [1, 2, True, "a", 1], "context": {str(key): key for key in range(17)}}).encode())
@example(body=b'{"features": [1, 2, true, "a", 1], "context": {"shop": "\\u0000"}}')
@example(body=b'{"features": [1, 2, true, "a", 1], "context": {"a": 1.0, "b": 9223372036854775808, "c": [1]}}')
@example(body=b'{"features": [1, 2, true, "\xff", 1]}')
def test_the_quick_reader_is_as_strict(body: bytes) -> None:
    """Whatever it takes, validation reads the same; what validation refuses it does not take."""
    quick, careful = QUICK.read(body), carefully(body)

    if careful is None:
        assert quick is None
    elif quick is not None:
        assert same(quick, careful)


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
@pytest.mark.parametrize("named", [False, True], ids=["in order", "by name"])
def test_plain_bodies_are_read_quickly(*, many: bool, named: bool) -> None:
    """All four forms, with ids and the context of a row, need no second reading."""
    row = [41, 1.5, True, "web", 2]
    features = dict(zip(NAMES, row, strict=True)) if named else row
    data = (
        {"instances": [features] * 2, "prediction_ids": ["a", None]}
        if many
        else {"features": features, "prediction_id": "a", "context": {"shop": "north", "basket": 3, "new": False}}
    )

    request = QUICK.read(json.dumps(data).encode())

    assert request is not None
    assert request.many is many
    assert [tuple(found) for found in request.rows] == [(41.0, 1.5, True, "web", 2)] * (1 + many)
    assert request.ids[0] == "a"


def test_a_name_that_the_decoder_cannot_look_for() -> None:
    """A feature's name with a quotation mark leaves every body to validation, which takes it."""
    schema = ModelSchema("odd", "1", Task.REGRESSION, (Feature('a"b', FeatureType.NUMERIC),))

    with pytest.raises(ValueError, match="field names"):
        QuickReader(schema)
    assert RequestValidator(schema).parse(b'{"features": {"a\\"b": 1}}').rows[0] == [1.0]
