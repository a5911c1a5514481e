"""What ``POST /predict`` and ``POST /outcome`` refuse: never with a 500, never stored, never at a neighbour's cost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.store.queries.outcomes import revisions_of
from app.store.queries.predictions import stream
from tests.api.conftest import Start
from tests.support.api.bodies import GOOD, body_with
from tests.support.application import Client, ledger, make_config, running, services_of
from tests.support.models.tasks import Fitted

DEEP = 100_000


BAD_BODIES = {
    "bool for a number": body_with(b"true"),
    "text for a number": body_with(b'"3"'),
    "object for a number": body_with(b"{}"),
    "null for a number that is needed": body_with(b"null", b"age"),
    "null for a category that is needed": body_with(b"null", b"channel"),
    "number for a category": body_with(b"1", b"channel"),
    "number for a boolean": body_with(b"1", b"member"),
    "text for a boolean": body_with(b'"true"', b"member"),
    "NaN": body_with(b"NaN"),
    "Infinity": body_with(b"Infinity"),
    "minus Infinity": body_with(b"-Infinity"),
    "a number beyond doubles": body_with(b"1e400"),
    "400 digits": body_with(b"1" * 400),
    "5000 digits": body_with(b"1" * 5000),
    "NUL": body_with(rb'"a\u0000b"', b"channel"),
    "a raw NUL": body_with(b'"a\x00b"', b"channel"),
    "a lone surrogate": body_with(rb'"\ud800"', b"channel"),
    "bad UTF-8": body_with(b'"\xff\xfe"', b"channel"),
    "an overlong text": body_with(b'"' + b"x" * 1025 + b'"', b"channel"),
    "UTF-16": body_with(b"1").decode().encode("utf-16"),
    "UTF-32": body_with(b"1").decode().encode("utf-32"),
    "an empty body": b"",
    "only space": b"  ",
    "half a body": body_with(b"1")[:-5],
    "two bodies": body_with(b"1") * 2,
    "a number": b"1",
    "null": b"null",
    "a list": b"[" + body_with(b"1") + b"]",
    "no features": b"{}",
    "features and instances": b'{"features": ' + GOOD + b', "instances": [' + GOOD + b"]}",
    "null for features": b'{"features": null}',
    "no instances": b'{"instances": []}',
    "null for instances": b'{"instances": null}',
    "an instance of null": b'{"instances": [' + GOOD + b", null]}",
    "instances of two forms": b'{"instances": [' + GOOD + b', [30, 1.5, "web", true]]}',
    "too few in order": b'{"features": [30, 1.5, "web"]}',
    "too many in order": b'{"features": [30, 1.5, "web", true, 1]}',
    "a repeated feature": b'{"features": {"age": 30, "income": 1.5, "channel": "web", "member": true, "age": 31}}',
    "repeated features": b'{"features": ' + GOOD + b', "features": ' + GOOD + b"}",
    "a repeated context key": b'{"features": ' + GOOD + b', "context": {"a": 1, "a": 2}}',
    "an escaped repeated key": b'{"features": ' + GOOD + rb', "context": {"a": 1, "\u0061": 2}}',
    "an unknown field beside features": b'{"features": ' + GOOD + b', "score": 1}',
    "depth": b'{"features": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "depth of objects": b'{"features": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "100,000 keys": b'{"features": {' + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}}",
    "an empty id": b'{"features": ' + GOOD + b', "prediction_id": ""}',
    "an id with a space": b'{"features": ' + GOOD + b', "prediction_id": "a b"}',
    "an id with a line end": b'{"features": ' + GOOD + rb', "prediction_id": "a\n"}',
    "an id of 129": b'{"features": ' + GOOD + b', "prediction_id": "' + b"x" * 129 + b'"}',
    "a number for an id": b'{"features": ' + GOOD + b', "prediction_id": 7}',
    "an id for many": b'{"instances": [' + GOOD + b'], "prediction_id": "a"}',
    "ids too few": b'{"instances": [' + GOOD + b"," + GOOD + b'], "prediction_ids": ["a"]}',
    "no ids": b'{"instances": [' + GOOD + b'], "prediction_ids": []}',
    "repeated ids": b'{"instances": [' + GOOD + b"," + GOOD + b'], "prediction_ids": ["a", "a"]}',
    "contexts too few": b'{"instances": [' + GOOD + b"," + GOOD + b'], "contexts": [{}]}',
    "context and contexts": b'{"instances": [' + GOOD + b'], "contexts": [{}], "context": {}}',
    "17 scalars of context": b'{"features": ' + GOOD + b', "context": '
    + json.dumps({str(number): number for number in range(17)}).encode() + b"}",
    "a nested context": b'{"features": ' + GOOD + b', "context": {"a": {}}}',
    "NUL in a context": b'{"features": ' + GOOD + rb', "context": {"a": "\u0000"}}',
    "NUL in a context's key": b'{"features": ' + GOOD + rb', "context": {"\u0000": 1}}',
    "NaN in a context": b'{"features": ' + GOOD + b', "context": {"a": NaN}}',
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused(mixed: Client, name: str) -> None:
    """It is answered 422 with JSON that names a field, and nothing is stored."""
    before = mixed.rows
    answer = mixed.raw("/predict", BAD_BODIES[name])

    assert answer.status_code == 422
    assert all({"field", "expected", "msg"} <= error.keys() for error in answer.json()["detail"])
    assert len(answer.json()["detail"]) > 0
    assert mixed.rows == before


def test_every_wrong_field_is_listed(mixed: Client) -> None:
    """One answer names each field that is wrong, what was expected and why it was refused, and repeats no value."""
    row = {"age": "s3cret", "income": True, "channel": 77123, "extra": "hidden"}
    detail = mixed.post("/predict", {"features": row, "prediction_id": "no way"}).json()["detail"]
    fields = {error["field"]: (error["expected"], error["msg"]) for error in detail}

    assert fields["features.age"] == ("a whole number", "got text")
    assert fields["features.income"] == ("a number or null", "got a boolean")
    assert fields["features.channel"] == ("text", "got a number")
    assert fields["features.member"] == ("true or false", "is missing")
    assert fields["features.extra"] == ("a field the model knows", "unknown field")
    assert "prediction_id" in fields
    assert len(fields) == 6
    assert not any(value in json.dumps(detail) for value in ("s3cret", "77123", "hidden", "no way"))


def test_wrong_fields_of_many_are_listed_by_row(mixed: Client) -> None:
    """Many rows are all or nothing, and each wrong field is named with its row."""
    rows = [json.loads(GOOD), {**json.loads(GOOD), "age": None}, {**json.loads(GOOD), "channel": 1}]
    before = mixed.rows
    answer = mixed.post("/predict", {"instances": rows})

    assert [error["field"] for error in answer.json()["detail"]] == ["instances.1.age", "instances.2.channel"]
    assert mixed.rows == before


@pytest.mark.parametrize("path", ["/predict", "/outcome"])
@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp",
     "application/octet-stream", "application/vnd.bentoml+pickle"],
)  # fmt: skip
def test_other_content_types_are_415(mixed: Client, path: str, content_type: str) -> None:
    """Only JSON is read; a form or a pickle is refused by its content type."""
    assert mixed.raw(path, body_with(b"1"), **{"content-type": content_type}).status_code == 415


def test_json_may_name_its_charset(mixed: Client) -> None:
    """Parameters of the content type, and its case, change nothing."""
    answer = mixed.raw("/predict", body_with(b"1"), **{"content-type": "Application/JSON; charset=utf-8"})

    assert answer.status_code == 200


def test_bad_neighbours_cost_nothing(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Refused bodies sent between good ones: each good one is answered and stored, and the ledger adds up."""

    async def scenario() -> tuple[list[int], list[int], int, dict[str, float]]:
        async with running(make_config(tmp_path, small_models[0], "mixed")) as (app, client):
            headers = {"content-type": "application/json"}
            bad = [client.post("/predict", content=body, headers=headers) for body in BAD_BODIES.values()]
            good = [client.post("/predict", content=body_with(b"%d" % n), headers=headers) for n in range(len(bad))]
            mingled = [call for pair in zip(bad, good, strict=True) for call in pair]
            answers = [answer.status_code for answer in await asyncio.gather(*mingled)]
            count = await services_of(app).readers.run(_count)
            return answers[::2], answers[1::2], count, ledger((await client.get("/metrics")).text)

    refused, answered, stored, found = asyncio.run(scenario())

    assert set(refused) == {422}
    assert set(answered) == {200}
    assert stored == len(BAD_BODIES)
    assert found["missing"] == 0
    assert found["accepted"] == found["stored"] == stored


BAD_OUTCOMES = {
    "no outcome": b'{"prediction_id": "p"}',
    "null": b'{"prediction_id": "p", "outcome": null}',
    "NaN": b'{"prediction_id": "p", "outcome": NaN}',
    "beyond doubles": b'{"prediction_id": "p", "outcome": 1e400}',
    "5000 digits": b'{"prediction_id": "p:", "outcome": ' + b"1" * 5000 + b"}",
    "NUL": rb'{"prediction_id": "p", "outcome": "\u0000"}',
    "a list": b'{"prediction_id": "p", "outcome": []}',
    "a number for a text class": b'{"prediction_id": "p", "outcome": 1}',
    "an unknown field": b'{"prediction_id": "p", "outcome": "good", "at": 1}',
    "a repeated field": b'{"prediction_id": "p", "outcome": "good", "outcome": "bad"}',
    "a naive time": b'{"prediction_id": "p", "outcome": "good", "observed_at": "2026-01-01T00:00:00"}',
    "a date": b'{"prediction_id": "p", "outcome": "good", "observed_at": "2026-01-01"}',
    "a number for a time": b'{"prediction_id": "p", "outcome": "good", "observed_at": 1700000000}',
    "a number in text for a time": b'{"prediction_id": "p", "outcome": "good", "observed_at": "1700000000"}',
    "the future": b'{"prediction_id": "p", "outcome": "good", "observed_at": "2999-01-01T00:00:00Z"}',
    "the year 1": b'{"prediction_id": "p", "outcome": "good", "observed_at": "0001-01-01T00:00:00+14:00"}',
    "NaN for a value": b'{"prediction_id": "p", "outcome": "good", "value": NaN}',
    "text for a value": b'{"prediction_id": "p", "outcome": "good", "value": "1"}',
    "a boolean for a value": b'{"prediction_id": "p", "outcome": "good", "value": true}',
    "text for revise": b'{"prediction_id": "p", "outcome": "good", "revise": "yes"}',
    "a bad id": b'{"prediction_id": "p q", "outcome": "good"}',
    "no list": b'{"outcomes": {}}',
    "an empty list": b'{"outcomes": []}',
    "a list and more": b'{"outcomes": [], "x": 1}',
    "a repeated list": b'{"outcomes": [1], "outcomes": [2]}',
    "NaN in a list": b'{"outcomes": [{"prediction_id": "p", "outcome": NaN}]}',
    "5000 digits in a list": b'{"outcomes": [{"prediction_id": "p", "outcome": ' + b"1" * 5000 + b"}]}",
    "depth": b'{"outcomes": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "empty": b"",
    "UTF-16": '{"prediction_id": "p", "outcome": "good"}'.encode("utf-16"),
}


@pytest.mark.parametrize("name", BAD_OUTCOMES)
def test_a_bad_outcome_is_refused(mixed: Client, name: str) -> None:
    """It is answered 422, and the prediction keeps waiting for its outcome."""
    mixed.raw("/predict", b'{"features": ' + GOOD + b', "prediction_id": "p"}')
    answer = mixed.raw("/outcome", BAD_OUTCOMES[name])

    assert answer.status_code == 422
    assert all({"field", "expected", "msg"} <= error.keys() for error in answer.json()["detail"])
    assert mixed.read(lambda connection: revisions_of(connection, ["p", "p:"])) == {}


ROUNDED = {
    "beyond 2^53": (str(2**53 + 1), "features.income"),
    "negative": (str(-(2**53) - 1), "features.income"),
    "twenty digits": ("12345678901234567891", "features.income"),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_a_whole_number_that_would_be_rounded_is_named(mixed: Client, name: str) -> None:
    """A feature, a context and a business value of more than 53 bits are refused by name; those that fit are kept."""
    number, field = ROUNDED[name]
    body = {"features": {**json.loads(GOOD), "income": 1}}
    answer = mixed.raw("/predict", json.dumps(body).replace('"income": 1', f'"income": {number}').encode())
    many = json.dumps({"instances": [json.loads(GOOD), body["features"]]}).replace('"income": 1', f'"income": {number}')
    listed = mixed.raw("/predict", many.encode())
    context = mixed.raw("/predict", b'{"features": ' + GOOD + b', "context": {"big": ' + b"1" * 20 + b"}}")
    value = f'{{"prediction_id": "p", "outcome": "good", "value": {number}}}'.encode()
    told = mixed.raw("/outcome", value)
    item = mixed.raw("/outcome", b'{"outcomes": [' + value + b"]}").json()["results"][0]

    assert (answer.status_code, [error["field"] for error in answer.json()["detail"]]) == (422, [field])
    assert [error["field"] for error in listed.json()["detail"]] == ["instances.1.income"]
    assert [error["field"] for error in context.json()["detail"]] == ["context.big"]
    assert [error["field"] for error in told.json()["detail"]] == ["value"]
    assert item["status"] == "invalid"
    assert "value" in item["detail"]


@pytest.mark.parametrize("number", [2**53, 2**60, -(2**53), 10**22])
def test_a_large_number_that_a_double_holds_is_kept(mixed: Client, number: int) -> None:
    """A whole number of many digits is stored as it came where a double holds it."""
    body = {"features": {**json.loads(GOOD), "income": number}, "prediction_id": f"large-{number}"}

    assert mixed.post("/predict", body).status_code == 200
    assert mixed.get(f"/predictions/large-{number}").json()["features"]["income"] == number


def test_a_truth_that_would_be_rounded_is_named(start: Start, fitted: dict[str, Fitted]) -> None:
    """The truth of a regression is refused where a double does not hold it, and where it is a word or infinite."""
    client = start("price")
    client.post("/predict", {"features": fitted["price"].rows[0], "prediction_id": "p"})
    for truth in (b"9007199254740993", b"Infinity", b"NaN", b"1e999", b'"inf"', b'"twelve"', b"true"):
        one = b'{"prediction_id": "p", "outcome": ' + truth + b"}"
        answer = client.raw("/outcome", one)
        listed = client.raw("/outcome", b'{"outcomes": [' + one + b"]}")

        assert (answer.status_code, [error["field"] for error in answer.json()["detail"]]) == (422, ["outcome"]), truth
        if listed.status_code == 200:
            assert [each["status"] for each in listed.json()["results"]] == ["invalid"], truth
        else:
            assert [error["field"] for error in listed.json()["detail"]] == ["outcomes.0.outcome"], truth


@pytest.mark.parametrize("path", ["/predict", "/outcome", "/alerts/silences"])
def test_a_byte_order_mark_is_passed_over(mixed: Client, path: str) -> None:
    """A body that begins with the mark of UTF-8, as some writers make it, says what it says without it."""
    bodies = {
        "/predict": b'{"features": ' + GOOD + b', "prediction_id": "marked"}',
        "/outcome": b'{"prediction_id": "nobody-has-this", "outcome": "good"}',
        "/alerts/silences": b'{"rule": "latency"}',
    }
    plain, marked = (mixed.raw(path, mark + bodies[path]) for mark in (b"", b"\xef\xbb\xbf"))

    assert marked.status_code == plain.status_code
    assert plain.status_code != 422 or path == "/alerts/silences"


def _count(connection: Any) -> int:
    return sum(1 for _ in stream(connection))
