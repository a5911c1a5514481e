"""Find keys that stand twice in one JSON object: parsers keep the last in silence, and a wrong row would be stored."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from app.errors import FieldError, Invalid
from app.serving.refusals import MOST_ERRORS


def refuse_duplicate_keys(body: bytes, keys: int) -> None:
    """Refuse a body in which a key is repeated; ``keys`` is how many its parsed form has.

    Each key brings a colon, so a body with as many colons as its parsed form has keys repeats none; only otherwise (a
    repeated key, or a colon inside text) is the body read again.

    Raises:
        Invalid: naming the repeated keys.
    """
    if body.count(b":") == keys:
        return
    repeated: set[str] = set()

    def collect(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) == len(pairs):
            return
        repeated.update(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)

    json.loads(body, object_pairs_hook=collect)
    if repeated:
        raise Invalid(
            [FieldError(key, "this field once", "is written more than once") for key in sorted(repeated)[:MOST_ERRORS]]
        )


def count_keys(data: Any) -> int:
    """The keys of all objects in parsed JSON.

    >>> count_keys({"a": [{"b": 1}, {"b": {}}]})
    3
    """
    if isinstance(data, dict):
        return len(data) + sum(count_keys(value) for value in data.values() if isinstance(value, (dict, list)))
    return sum(count_keys(value) for value in data if isinstance(value, (dict, list)))
