"""Large bodies seen from their bytes: what is counted is what the JSON holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.validation.fast_decoder import (
    FREE_ITEMS,
    WINDOW_BYTES,
    containers,
    count_values,
    is_long,
    may_have_wide_text,
    outline,
    structure,
)

TEXTS = st.text(st.sampled_from('[]{},:"\\ a\N{PARTY POPPER}'), max_size=6)
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def marks(value: object) -> str:
    """The brackets, commas and colons of a value, written by hand."""
    if isinstance(value, dict):
        return "{" + ",".join(":" + marks(each) for each in value.values()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(marks, value)) + "]"
    return ""


@given(VALUES, st.booleans())
def test_the_structure_is_that_of_the_value(value: object, ascii_only: bool) -> None:
    """Whatever stands inside texts, the structure and what is counted of it are those of the value."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    found = structure(body).decode()

    assert found == marks(value)
    assert containers(body, -1) == found.count("[") + found.count("{")
    assert count_values(body, -1) == 1 + found.count(",")


def test_the_outline_is_that_of_the_outermost() -> None:
    """Commas and colons of inner rows are not in it; what is nested too deeply has none."""
    assert outline(b'[[1, 2], {"a": [3, 4]}, "5, 6"]') == b",,"
    assert outline(b"[" * 9 + b"]" * 9) is None


@pytest.mark.parametrize(("items", "long"), [(FREE_ITEMS, False), (FREE_ITEMS + 2, True)])
def test_a_list_is_long_where_it_matters(items: int, *, long: bool) -> None:
    """A list of more items than are taken is long once it has so many that it costs memory."""
    assert is_long(b"[" + b",".join([b"1"] * items) + b"]", 1000) is long
    assert not is_long(b"[[" + b",".join([b"1"] * items) + b"]]", 1000)


@pytest.mark.parametrize(
    ("text", "wide"),
    [
        ("a" * 3 * WINDOW_BYTES, False),
        ("\N{PARTY POPPER}" * WINDOW_BYTES, True),
        ("\\ud83c" + "a" * 3 * WINDOW_BYTES, True),
    ],
)
def test_a_text_is_wide_where_it_may_be(text: str, *, wide: bool) -> None:
    """A long text of other characters than ASCII, written or escaped, may take four times its bytes."""
    assert may_have_wide_text(f'{{"features": ["{text}"]}}'.encode()) is wide
    assert not may_have_wide_text(json.dumps(["\N{PARTY POPPER}"] * WINDOW_BYTES).encode())
