"""Delimiters: found in the names and rows, named by the file, or given."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from app.commands.tables.delimited import Dialect, TextFile


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
