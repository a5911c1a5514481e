"""The bodies of ``POST /outcome``: what is good is read once, and means the same as when it is read with care."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.api.endpoints.outcome_schema import parse_outcomes, read_outcome
from app.errors import Invalid
from app.types import Micros, Outcome, OutcomeResult, OutcomeStatus

NOW = Micros(1_800_000_000_000_000)
TEXT = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NUMBERS = some.floats(allow_nan=False, allow_infinity=False)
ITEMS = some.fixed_dictionaries(
    {
        "prediction_id": some.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True),
        "outcome": some.booleans() | some.integers(-(2**63), 2**63 - 1) | NUMBERS | TEXT,
    },
    optional={
        "observed_at": some.none() | some.sampled_from(["2026-01-02T03:04:05Z", "2999-01-01T00:00:00Z"]),
        "value": some.none() | NUMBERS,
        "revise": some.booleans(),
    },
)


def parse_many(*items: Any) -> list[Outcome | OutcomeResult]:
    """The items of a list form."""
    parsed = parse_outcomes(orjson.dumps({"outcomes": items}), NOW)
    assert isinstance(parsed, list)
    return parsed


@given(some.lists(ITEMS, min_size=1, max_size=5))
def test_a_bad_neighbour_changes_nothing(items: list[Any]) -> None:
    """A list of good items, which is read at once, says what it says item by item beside a bad one, and each alone."""
    together = parse_many(*items)

    assert parse_many(*items, "nonsense")[:-1] == together
    for item, read in zip(items, together, strict=True):
        if isinstance(read, Outcome):
            assert parse_outcomes(orjson.dumps(item), NOW) == read
            assert repr(read.outcome) == repr(item["outcome"])
        else:
            assert (read.prediction_id, read.status) == (item["prediction_id"], OutcomeStatus.INVALID)


ONE = '{"prediction_id": "p:1", "outcome": "no"%s}'
REPEATED = {
    "at once": ', "outcome": "yes"',
    "the same": ', "outcome": "no"',
    "as a number": ', "outcome": 1',
    "spaced": ', "outcome"\t\n : "no"',
    "written otherwise": r', "\u006futcome": "no"',
    "with an object before": ', "value": {"a": ":"}, "value": 1',
}


@pytest.mark.parametrize("name", REPEATED)
@pytest.mark.parametrize("form", ["%s", '{"outcomes": [%s]}'])
def test_a_repeated_key_is_refused(form: str, name: str) -> None:
    """However a key is repeated, in either form, the body is refused: nobody knows which of the two was meant."""
    with pytest.raises(Invalid) as refusal:
        parse_outcomes((form % ONE % REPEATED[name]).encode(), NOW)

    assert [problem.reason for problem in refusal.value.fields] == ["is written more than once"]


@pytest.mark.parametrize("label", ['say "no"', '"', r"\"", '": "', '"outcomes"', "日本", r"\u0022"])
def test_marks_inside_text_are_no_keys(label: str) -> None:
    """Quotation marks and colons inside a label are part of the label."""
    item = {"prediction_id": "p", "outcome": label, "observed_at": "2026-01-02T03:04:05Z"}
    parsed = [parse_outcomes(orjson.dumps(item), NOW), *parse_many(item)]

    assert [isinstance(read, Outcome) and read.outcome for read in parsed] == [label, label]


NUMBERS_AS_TEXT = ["1e400", "-0", "1.0", str(2**64), str(2**63 - 1), str(-(2**63) - 1), "NaN", "01"]
TEXTS = ['"\\u0000"', '"\\ud800"', '"a:b"', '"é"', f'"{"x" * 1024}"', f'"{"x" * 1025}"']
ODD = some.sampled_from([*NUMBERS_AS_TEXT, *TEXTS, "true", "truE", "null", "[1]", "{}"])
IDS = some.sampled_from(['"p"', '"p:1"', '"p\\n"', '""', '"p q"', "null", f'"{"p" * 128}"', f'"{"p" * 129}"', '"é"'])


@given(IDS, ODD, some.none() | ODD, some.none() | ODD, some.sampled_from(["", ', "outcome": 1', ', "x": 1', " "]))
def test_what_is_read_quickly_is_read_alike_with_care(
    id_: str, outcome: str, value: str | None, revise: str | None, rest: str
) -> None:
    """Whatever the quick way takes, the careful way takes too, and finds the same in it."""
    more = "".join(f', "{name}": {text}' for name, text in (("value", value), ("revise", revise)) if text is not None)
    body = f'{{"prediction_id": {id_}, "outcome": {outcome}{more}{rest}}}'.encode()
    quick = read_outcome(body)
    if quick is not None:
        assert repr(parse_outcomes(b'{"outcomes": [' + body + b"]}", NOW)) == repr([quick])


@pytest.mark.parametrize(
    ("item", "detail"),
    [
        (5, "body: expected an object, got a number"),
        (None, "body: expected an object, got null"),
        ({"prediction_id": 7, "outcome": 1}, "prediction_id: expected text of 1 to 128 letters, "),
        ({"prediction_id": "p", "outcome": [1]}, "outcome: expected a class label or a finite number, got an array"),
        ({"prediction_id": "p", "outcome": 1, "value": True}, "value: expected a finite number, got a boolean"),
        ({"prediction_id": "p", "outcome": 1, "revise": "yes"}, "revise: expected true or false, got text"),
        ({"prediction_id": "p", "outcome": 1, "note": ""}, "note: expected a known field, unknown field"),
    ],
)
def test_a_wrong_type_is_told_in_the_words_of_json(item: Any, detail: str) -> None:
    """The refusal names no Python class and says the reason once."""
    [found] = parse_many(item)

    assert isinstance(found, OutcomeResult)
    assert found.detail is not None
    assert found.detail.startswith(detail)
    assert "Input" not in found.detail
