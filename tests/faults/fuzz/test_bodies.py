"""Whatever body comes to whatever operation: the answer is one that the description names, and no 5xx."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from tests.support.api.contract import Contract
from tests.support.application import client_of, make_config
from tests.support.http.fuzz import examples
from tests.support.models.tasks import Fitted

pytestmark = pytest.mark.fault
USUAL = 50

NAMES = (
    *("features", "instances", "prediction_id", "prediction_ids", "context", "contexts", "model_version"),
    *("outcome", "outcomes", "observed_at", "revise", "matcher", "rule", "severity", "feature", "duration"),
    *("starts_at", "reason", "version", "name", "scopes", "expires", "model", "age", "income", "channel", "member"),
)
TEXTS = (
    some.sampled_from((*NAMES, "", "\0", "1h", "9999999w", "2026-01-01T00:00:00Z", "high", "web", "1")) | some.text()
)
VALUES: some.SearchStrategy[Any] = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | TEXTS,
    lambda inner: (
        some.lists(inner, max_size=4) | some.dictionaries(some.sampled_from(NAMES) | TEXTS, inner, max_size=6)
    ),
    max_leaves=12,
)
WRONG = (b"", b"\0", b"\xff", b"{", b"]", b",", b'"', b"\\ud800", b"1e999", b"9" * 5000, b"NaN", b"[" * 5000, b"/**/")
FOUND = (
    b"[" * 60_000,
    b'{"features": ' + b'{"age": ' * 5000,
    b'{"prediction_id": "a", "outcome": ' + b"9" * 5000 + b"}",
    b'{"name": "a", "name": "b"}',
    b"\xef\xbb\xbf{}",
)


@some.composite
def bodies(draw: some.DrawFn) -> bytes:
    """JSON of any shape with names that mean something, and sometimes bytes in it that are no JSON."""
    text = json.dumps(draw(VALUES), ensure_ascii=draw(some.booleans())).encode("utf-8", "surrogatepass")
    place = int(draw(some.floats(0, 1)) * len(text))
    return text[:place] + draw(some.just(b"") | some.sampled_from(WRONG)) + text[place:]


def draw_bodies(number: int) -> list[bytes]:
    """So many bodies, the same ones each time; all at once, as hypothesis wants no other thread to draw chance."""
    drawn: list[bytes] = list(FOUND)

    @settings(max_examples=number, derandomize=number == USUAL)
    @given(bodies())
    @example(b"")
    def draw(body: bytes) -> None:
        drawn.append(body)

    draw()
    return drawn


def test_any_body_is_answered_as_described(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Every operation that takes a body answers every body with what its description says."""
    drawn = draw_bodies(examples(USUAL))
    with client_of(make_config(tmp_path, small_models[0], "mixed")) as client:
        contract = Contract(client.get("/openapi.json").json())
        takes = [name for name, operation in contract.operations.items() if "requestBody" in operation]
        for operation in takes:
            path = operation.removeprefix("POST ").replace("{name}", "mixed").replace("{alert_id}", "1")
            for body in drawn:
                answer = client.raw(path, body)

                assert answer.status_code < 500, (operation, body)
                assert contract.violations(operation, answer) == [], (operation, body)
    assert len(takes) > 4
    assert len(drawn) > 50
