"""Numbers in text: marks, thousands, and what is none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from app.commands.tables.numbers import NumberParser, find_decimal
from app.errors import PlumblineError


@pytest.mark.parametrize(
    ("decimal", "word", "number"),
    [
        (".", "1,234.5", 1234.5),
        (".", "1,234,567", 1_234_567),
        (",", "1.234,5", 1234.5),
        (",", "1 234,5", 1234.5),
        (",", "1\u202f234", 1234),
        (".", "1'234.5", 1234.5),
        (",", "-0,5", -0.5),
        (".", "+1e3", 1000.0),
        (".", "12,34", None),
        (".", "1,234'567", None),
        (",", "1.5", None),
        (".", "1e999", None),
        (".", "inf", None),
        (".", "1_000", None),
        (".", "\u0663", None),
        (".", "", None),
        (".", "-", None),
        (".", "9" * 5_000, None),
    ],
)
def test_a_number_is_read_with_one_mark(decimal: str, word: str, number: float | None) -> None:
    """Thousands are divided by the same mark in groups of three; everything else is no number."""
    assert NumberParser(decimal)(word) == number


def test_numbers_are_exact() -> None:
    """A float is the nearest to its text, and whole numbers have no limit."""
    assert NumberParser(".")("0.1") == 0.1
    assert NumberParser(".")(repr(math.pi)) == math.pi
    assert NumberParser(".")("9007199254740993") == 9007199254740993


@pytest.mark.parametrize(
    ("columns", "mark"),
    [
        ({"a": ["1,5", "2,25"]}, ","),
        ({"a": ["1.5", "2"]}, "."),
        ({"a": ["1,234", "2"], "b": ["1.5"]}, "."),
        ({"a": ["1.234", "2"], "b": ["1,5"]}, ","),
        ({"a": ["1.234", "2.345"]}, "."),
        ({"a": ["Smith, John"], "b": ["1.5"]}, "."),
        ({"a": ["1.234,5"]}, ","),
        ({"a": ["1,234.5"]}, "."),
        ({"a": ["", "NA"]}, "."),
        ({}, "."),
    ],
    ids=str,
)
def test_the_mark_is_found(columns: dict[str, list[str]], mark: str) -> None:
    """One column with numbers that can be read in one way alone decides for the file."""
    assert find_decimal(Path("t.csv"), columns) == mark


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"a": ["1,234"]}, "1,234 in column 'a' can be meant in two ways"),
        ({"a": ["1,5"], "b": ["1.5"]}, "two decimal marks: 1.5 in column 'b', 1,5 in column 'a'"),
    ],
)
def test_what_can_be_meant_in_two_ways_is_refused(columns: dict[str, list[str]], line: str) -> None:
    """The option is named, rather than a reading guessed."""
    with pytest.raises(PlumblineError) as refused:
        find_decimal(Path("t.csv"), columns)

    assert line in str(refused.value)
    assert "say --decimal" in str(refused.value)
