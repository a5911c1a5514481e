"""Large bodies of ``POST /predict`` and ``POST /outcome``: bounded, cheap to refuse, and read off the event loop."""

from __future__ import annotations

import gzip
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.errors import MAX_FIELDS
from tests.support.api.bodies import GOOD, body_with
from tests.support.application import Client
from tests.support.calls import count_calls


@pytest.mark.parametrize(
    ("encoding", "content", "status"),
    [
        ("br", body_with(b"1"), 415),
        ("gzip, gzip", gzip.compress(body_with(b"1")), 415),
        ("gzip", body_with(b"1"), 415),
        ("gzip", gzip.compress(body_with(b"1"))[:-4], 415),
        ("gzip", gzip.compress(body_with(b"1")) + b"more", 415),
        ("gzip", gzip.compress(b" " * (8 * 2**20 + 1)), 413),
        ("gzip", gzip.compress(b" " * 200_000_000), 413),
    ],
    ids=["brotli", "twice", "not gzip", "half", "a tail", "just too large", "a bomb"],
)
def test_compression_hides_nothing(mixed: Client, encoding: str, content: bytes, status: int) -> None:
    """What is unpacked is bounded as what is sent, and a damaged body is not guessed at."""
    assert mixed.raw("/predict", content, **{"content-encoding": encoding}).status_code == status


@pytest.mark.parametrize("path", ["/predict", "/outcome"])
def test_an_oversized_body_is_413(mixed: Client, path: str) -> None:
    """A body beyond ``server.max_body_bytes`` is refused, whether its length is announced or not."""

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    announced = mixed.raw(path, b" " * (8 * 2**20 + 1))
    endless: Any = chunks()

    assert announced.status_code == 413
    assert mixed.raw(path, endless).status_code == 413


HUGE = {
    "unknown fields": b'{"features": {' + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}}",
    "rows of numbers": b'{"instances": [' + b"1," * 1_000_000 + b"1]}",
    "empty rows": b'{"instances": [' + b"{}," * 1_000_000 + b"{}]}",
    "wrong ids": b'{"instances": [' + GOOD + b'], "prediction_ids": [' + b"1," * 1_000_000 + b"1]}",
    "wrong contexts": b'{"instances": [' + GOOD + b'], "contexts": [' + b"1," * 1_000_000 + b"1]}",
    "a wide context": b'{"features": '
    + GOOD
    + b', "context": {'
    + b",".join(b'"k%d":[]' % number for number in range(100_000))
    + b"}}",
    "a row with unknown fields": b'{"instances": ['
    + GOOD
    + b", {"
    + b",".join(b'"k%d":1' % number for number in range(600_000))
    + b"}]}",
    "long names": b'{"features": {' + b",".join(b'"%d%b":1' % (number, b"k" * 40_000) for number in range(30)) + b"}}",
    "many rows with errors": b'{"instances": [' + b'{"age": "x"},' * 20_000 + GOOD + b"]}",
    "deep nesting": b'{"features": {"age": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "unknown keys": b"{" + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}",
}


@pytest.mark.parametrize("name", HUGE)
def test_nonsense_is_refused_quickly(mixed: Client, name: str) -> None:
    """Megabytes with a mistake at every step cost little more than their reading: the answer names some of them."""
    answers: list[httpx.Response] = []
    calls = count_calls(lambda: answers.append(mixed.raw("/predict", HUGE[name])), mixed.set_profile)

    assert answers[0].status_code == 422
    assert 1 <= len(answers[0].json()["detail"]) <= MAX_FIELDS
    assert len(answers[0].content) < 50_000
    assert calls < 2 * len(HUGE[name])


@pytest.mark.parametrize("size", [150, 4_000, 600_000])
def test_a_hundred_unknown_fields_are_named_and_the_others_counted(mixed: Client, size: int) -> None:
    """The answer to a row with many unknown fields has a hundred lines, the last of which says how many others."""
    body = b'{"features": {' + b",".join(b'"k%d":1' % number for number in range(size)) + b"}}"
    *named, last = mixed.raw("/predict", body).json()["detail"]

    assert "unknown field" in {error["msg"] for error in named} <= {"unknown field", "is missing"}
    assert len(named) == MAX_FIELDS - 1
    assert int("".join(filter(str.isdigit, last["msg"]))) == pytest.approx(size - len(named), abs=5)


@pytest.mark.parametrize("size", [150, 600_000])
def test_an_outcome_of_many_fields_is_refused_in_a_few_lines(mixed: Client, size: int) -> None:
    """Neither a single outcome nor one of a list brings an answer of its own size."""
    outcome = b"{" + b",".join(b'"k%d":1' % number for number in range(size)) + b"}"
    single = mixed.raw("/outcome", outcome)
    listed = mixed.raw("/outcome", b'{"outcomes": [' + outcome + b', {"prediction_id": "nobody", "outcome": "good"}]}')

    assert single.status_code == 422
    assert len(single.json()["detail"]) <= MAX_FIELDS + 1
    assert [each["status"] for each in listed.json()["results"]] == ["invalid", "unknown"]
    assert len(listed.content) < 2_000


def test_large_bodies_are_decoded_off_the_event_loop(mixed: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of some hundred kilobytes, or a compressed one, is read in another thread; a plain one is not."""
    validator, threads = type(mixed.services.registry.active.validator), []
    parse = validator.parse

    def noting(*asked: Any) -> Any:
        threads.append(threading.get_ident())
        return parse(*asked)

    monkeypatch.setattr(validator, "parse", noting)
    loop = mixed.portal.call(threading.get_ident)
    large = b'{"instances": [' + b",".join([GOOD] * 2_000) + b"]}"
    assert len(mixed.raw("/predict", large).json()["predictions"]) == 2_000
    one = b'{"features": ' + GOOD + b"}"
    assert mixed.raw("/predict", gzip.compress(one), **{"content-encoding": "gzip"}).status_code == 200
    assert loop not in threads
    assert mixed.raw("/predict", one).status_code == 200
    assert threads[-1] == loop


def test_outcomes_beyond_the_queue_are_413(mixed: Client) -> None:
    """More outcomes in one body than ``serving.max_queue_rows`` are refused before they are looked at."""
    assert mixed.raw("/outcome", b'{"outcomes": [' + b"1," * 1_000_000 + b"1]}").status_code == 413
