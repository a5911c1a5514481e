"""Delimiters and numbers: the dialect is found in the file, named by it, or given."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import typer

from app.commands.tables.dialect import Dialect, NumberParser, TextFile, find_decimal
from app.errors import PlumblineError


def opened(folder: Path, written: str, delimiter: str | None = None) -> TextFile:
    """A file with this text, whose dialect is known."""
    (folder / "t.csv").write_text(written, newline="")
    return TextFile.open(folder / "t.csv", Dialect.of(delimiter, None, None))


@pytest.mark.parametrize(
    ("written", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2,5\n", ";"),
        ("a\tb\n1,5\t2;5\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ('"a;b",c\n1,2\n', ","),
        ("price, EUR;weight\n1,5;2,5\n", ";"),
        ("a,b;c\n1,x\n2,y\n", ","),
        ("a\n1;2\n", ","),
        ("sep=|\na,b|c\n1,2|3\n", "|"),
    ],
)
def test_the_delimiter_is_found(tmp_path: Path, written: str, delimiter: str) -> None:
    """It divides the names, and the rows into as many cells."""
    assert opened(tmp_path, written).delimiter == delimiter


@pytest.mark.parametrize(("given", "names"), [(":", ["a,b", "c"]), ("tab", ["a,b:c"]), (",", ["a", "b:c"])])
def test_a_given_delimiter_is_taken(tmp_path: Path, given: str, names: list[str]) -> None:
    """The option beats what the file looks like."""
    assert opened(tmp_path, "a,b:c\n1,2:3\n", given).names == names


@pytest.mark.parametrize("options", [("ab", None), ('"', None), ("\n", None), (None, ";"), ("", None)])
def test_what_is_no_mark_is_refused(options: tuple[str | None, str | None]) -> None:
    """A delimiter is one character, and a decimal mark a point or a comma."""
    with pytest.raises(typer.BadParameter):
        Dialect.of(*options, None)


def test_rows_that_end_early_are_told(tmp_path: Path) -> None:
    """Short, long and empty rows are counted, and one line says what became of them."""
    file = opened(tmp_path, "a;b;c\n1;2\n;;\n1;2;3;\n\n1;2;3\n")

    assert [cells for _, _, cells in file.rows()] == [["1", "2", ""], ["1", "2", "3"], ["1", "2", "3"]]
    assert file.notes() == [
        "delimiter ';'",
        "1 row without any cell, left out",
        "1 row with empty cells after the last name, left out",
        "1 row with fewer cells than names, the rest taken as missing",
    ]


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
        (",", "0.123", None),
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
        ({"a": ["0,123"]}, ","),
        ({"a": ["0.123", "1.234"]}, "."),
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


def test_json_lines_under_another_name_are_refused(tmp_path: Path) -> None:
    """The line says which name the file needs, rather than that it is empty."""
    (file := tmp_path / "rows.csv").write_text('{"age": 41, "shop": "a"}\n{"age": 42, "shop": "b"}\n')
    with pytest.raises(PlumblineError, match=r"holds JSON lines: its name must end in \.jsonl"):
        TextFile.open(file, Dialect())
