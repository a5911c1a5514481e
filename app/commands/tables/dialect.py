"""The dialect of a text table, found or given.

It is the delimiter, the blanks, the decimal mark and the words for a hole.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from app.errors import PlumblineError, one_line

if TYPE_CHECKING:
    import pandas as pd

Delimiter = Annotated[str | None, typer.Option(help="Character between cells, or tab; default: found in the file.")]
Decimal = Annotated[str | None, typer.Option(help="Decimal mark, . or a comma; default: found in the file.")]
Missing = Annotated[
    list[str] | None, typer.Option("--na", help="Text that stands for a missing value; may be given again.")
]
TimeZone = Annotated[str | None, typer.Option(help="Zone of times that have none, such as UTC or Europe/Berlin.")]
DayFirst = Annotated[
    bool | None, typer.Option("--day-first/--month-first", help="How dates such as 01/02/2026 are meant.")
]
DELIMITERS = "\t;|,"
"""Those that are looked for; the comma is the last, since it also stands in numbers and text."""
HEAD_BYTES = 1 << 18
"""What is looked at to find the delimiter."""
_MARKS = (("utf-8-sig", b"\xef\xbb\xbf"), ("utf-32", b"\xff\xfe\0\0"), ("utf-16", b"\xff\xfe"), ("utf-16", b"\xfe\xff"))


MISSING_WORDS = frozenset({"na", "n/a", "nan", "-nan", "none", "null", "nat", "<na>", "#n/a"}) | frozenset(
    {"#na", "#n/a n/a", "1.#qnan", "-1.#ind", "1.#ind"}
)
"""What programs write for a missing value, in lower case. In text these are words, unless the model says otherwise."""
MAX_MISFITS = 0.05
"""Share of cells that may be no numbers in a column of numbers that nobody has declared."""
MAX_CODES = 20
"""A column with no more different numbers may hold codes, and tolerates fewer cells that are no numbers."""
_NO_NUMBER = re.compile(r"[^0-9eE.+\-\n]")
_NO_INTEGER = re.compile(r"[eE.]")
LEADING_ZERO = re.compile(r"^[+-]?0\d", re.MULTILINE)
_GROUPED = re.compile(r"\s*[+-]?[1-9]\d{0,2}(?:\.\d{3})+\s*", re.ASCII)
"""A number whose points may divide thousands."""
FRACTION = re.compile(r"[.,]0$")
_MAX_INTEGER = 1 << 63


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form in which a file writes its cells; None is found in the file.

    Attributes:
        missing: texts that stand for a missing value, beside the empty cell.
    """

    delimiter: str | None = None
    decimal: str | None = None
    missing: tuple[str, ...] = ()

    @classmethod
    def of(cls, delimiter: str | None, decimal: str | None, missing: Sequence[str] | None) -> Dialect:
        """The dialect that a command's options name.

        Raises:
            typer.BadParameter: an option is no such character.
        """
        mark = {"tab": "\t", "\\t": "\t"}.get(delimiter or "", delimiter)
        if mark is not None and (len(mark) != 1 or mark in '"\r\n\0'):
            raise typer.BadParameter(f"{delimiter!r} is not one character, or tab", param_hint="--delimiter")
        if decimal not in (None, ".", ","):
            raise typer.BadParameter(f"{decimal!r} is neither . nor a comma", param_hint="--decimal")
        words = dict.fromkeys(form for word in missing or () for form in _forms(word.strip()))
        return cls(mark, decimal, tuple(words))


def _forms(word: str) -> tuple[str, ...]:
    """A text and, where it is a whole number, its other forms: -999, -999.0 and -999,0."""
    whole = FRACTION.sub("", word)
    return (word, whole, f"{whole}.0", f"{whole},0") if re.fullmatch(r"-?\d+", whole) else (word,)


@dataclass(slots=True)
class TextFile:
    """A file of delimited text whose dialect is known.

    Attributes:
        found: whether the delimiter was found, not given.
        skip_blanks: whether blanks after a delimiter belong to it.
        hinted: whether the first line names the delimiter, as ``sep=;`` does.
        indexed: whether each row begins with a cell that has no name.
        doubles: names that were made for columns whose name was taken, each with that name.
        short, long, empty: rows so far with too few cells, with empty ones after the last name, and without any.
    """

    file: Path
    encoding: str
    names: list[str]
    delimiter: str
    found: bool
    skip_blanks: bool
    hinted: bool
    indexed: bool
    doubles: dict[str, str]
    short: int = 0
    long: int = 0
    empty: int = 0

    @classmethod
    def open(cls, file: Path, dialect: Dialect) -> TextFile:
        """Find the dialect in the file's first lines."""
        with _binary(file) as (source, _):
            head = source.read(HEAD_BYTES)
            whole = not source.read(1)
        if head[:4] in (b"PK\3\4", b"\xd0\xcf\x11\xe0", b"PAR1") or (b"\0" in head and _encoding(head) == "utf-8"):
            raise PlumblineError(f"{file}: is no text: a table is a CSV, TSV, JSON lines or Parquet file")
        if head.lstrip().startswith(b'{"'):
            raise PlumblineError(f"{file}: holds JSON lines: its name must end in .jsonl")
        encoding = _encoding(head)
        lines = list(io.StringIO(head.decode(encoding, errors="strict" if whole else "ignore"), newline=""))
        lines = lines if whole else lines[:-1]
        told = re.fullmatch(r"sep=(.)\s*", lines[0], re.IGNORECASE) if lines else None
        lines = lines[1:] if told else lines
        given = dialect.delimiter or (told[1] if told else None)
        delimiter = given or _find_delimiter(lines)
        blanks = delimiter != " " and _blanks_after(_parsed(lines, delimiter))
        rows = _parsed(lines, delimiter, skip_blanks=blanks)
        if not rows:
            raise PlumblineError(f"{file}: is empty: it has no line of names")
        names, doubles = _distinct([name.strip(" \t\xa0\ufeff") for name in rows[0]])
        longer = len(rows) > 1 and all(len(row) == len(names) + 1 for row in rows[1:])
        indexed = longer and any(row[-1].strip() for row in rows[1:])
        return cls(file, encoding, names, delimiter, given is None, blanks, bool(told), indexed, doubles)

    def rows(self) -> Iterator[tuple[int, int, list[str]]]:
        """Give number, bytes read, and the cells under the names, of each row that is not empty.

        Raises:
            PlumblineError: a row has more cells than there are names, or an open quote.
        """
        width = len(self.names)
        with _binary(self.file) as (source, raw), io.TextIOWrapper(source, encoding=self.encoding, newline="") as text:
            reader = csv.reader(text, delimiter=self.delimiter, skipinitialspace=self.skip_blanks, strict=True)
            number = -1 - self.hinted
            try:
                for row in reader:
                    if not row:
                        continue
                    number += 1
                    if number <= 0:
                        continue
                    cells = row[self.indexed :]
                    if len(cells) != width:
                        cells = self._fitted(number, reader.line_num, cells)
                    if width > 1 and not any(cells):
                        self.empty += 1
                        continue
                    yield number, raw.tell(), cells
            except csv.Error as error:
                raise PlumblineError(f"{self.file}: line {reader.line_num}: {_explained(error)}") from None

    def _fitted(self, number: int, line: int, cells: list[str]) -> list[str]:
        width = len(self.names)
        if any(cell.strip() for cell in cells[width:]):
            raise PlumblineError(
                f"{self.file}: row {number} (line {line}) has {len(cells)} cells, and the file has {width} names: "
                "does a cell hold the delimiter without quotes?"
            )
        self.short += len(cells) < width
        self.long += len(cells) > width
        return cells[:width] + [""] * (width - len(cells))

    def notes(self) -> list[str]:
        """The assumptions, once the rows are read."""
        shown = {"\t": "tab"}.get(self.delimiter, repr(self.delimiter))
        said = [f"delimiter {shown}"] if self.found and self.delimiter != "," else []
        if self.encoding.startswith(("utf-16", "utf-32")):
            said.append(self.encoding.upper())
        if self.skip_blanks:
            said.append("blanks after the delimiter left out")
        if self.indexed:
            said.append("the first cell of each row has no name and is left out, as an index")
        counts = {
            "without any cell, left out": self.empty,
            "with empty cells after the last name, left out": self.long,
            "with fewer cells than names, the rest taken as missing": self.short,
        }
        return said + [f"{count} row{'s' * (count > 1)} {what}" for what, count in counts.items() if count]


def _explained(error: csv.Error) -> str:
    text = str(error)
    if "end of data" in text or "limit" in text:
        return "a quote is opened and not closed"
    return "text follows a closing quote" if "expected after" in text else text


@contextmanager
def _binary(file: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The file's bytes, decompressed by its suffix, and the file itself.

    The place in the file tells the progress.
    """
    import bz2
    import gzip
    import lzma
    import zipfile
    import zlib

    suffix = file.suffix.lower()
    opened: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(suffix)
    try:
        with file.open("rb") as raw:
            if suffix == ".zip":
                with zipfile.ZipFile(raw) as archive:
                    if len(archive.namelist()) != 1:
                        raise PlumblineError(f"{file}: holds {len(archive.namelist())} files, and a table is one")
                    with archive.open(archive.namelist()[0]) as member:
                        yield member, raw
            else:
                yield (opened(raw, "rb") if opened else raw), raw
    except (zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError) as error:
        raise PlumblineError(f"{file}: cannot be read: {one_line(error)}") from None


def _encoding(head: bytes) -> str:
    return next((name for name, mark in _MARKS if head.startswith(mark)), "utf-8")


def _parsed(lines: Sequence[str], delimiter: str, *, skip_blanks: bool = False) -> list[list[str]]:
    """The rows of the first lines, up to one that cannot be parsed."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=skip_blanks, strict=True):
            rows += [row] if row else []
    except csv.Error:
        pass
    return rows


def _find_delimiter(lines: Sequence[str]) -> str:
    """The first delimiter that divides the names, and nearly every row into as many cells."""
    shares: dict[str, float] = {}
    for delimiter in DELIMITERS:
        rows = _parsed(lines, delimiter, skip_blanks=True)
        width = len(rows[0]) if rows else 0
        if width > 1:
            fits = [len(row) in (width, width + 1) for row in rows[1:]]
            shares[delimiter] = min(sum(fits) / max(len(fits), 1) + (not fits), 0.9)
    return max(shares, key=shares.__getitem__, default=",")


def _blanks_after(rows: Sequence[Sequence[str]]) -> bool:
    """Whether blanks follow the delimiters: nearly always, or once before a quote."""
    cells = [cell for row in rows for cell in row[1:] if cell]
    blanks = [cell for cell in cells if cell[0] == " "]
    return any(cell.lstrip(" ").startswith('"') for cell in blanks) or len(blanks) * 10 > len(cells) * 9


def _distinct(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names made distinct as pandas makes them: ``age``, ``age.1``; and those that were made."""
    found: list[str] = []
    doubles: dict[str, str] = {}
    taken = set(names)
    for place, name in enumerate(names):
        unique = given = name or f"Unnamed: {place}"
        count = 0
        while unique in found or (count and unique in taken):
            count += 1
            unique = f"{given}.{count}"
        found.append(unique)
        if count:
            doubles[unique] = given
    return found, doubles


def plain_numbers(texts: Sequence[str], *, declared: bool) -> pd.Series[Any] | None:
    """The numbers of a column of plain numbers and empty cells, quickly; None of another."""
    import pandas as pd

    present = [text for text in texts if text]
    joined = "\n".join(present)
    if not present or _NO_NUMBER.search(joined) or (not declared and LEADING_ZERO.search(joined)):
        return None
    try:
        numbers: list[int | float] = list(map(float if _NO_INTEGER.search(joined) else int, present))
    except ValueError:
        return None
    if max(numbers) >= _MAX_INTEGER or min(numbers) <= -_MAX_INTEGER:
        return None
    if len(present) == len(texts):
        return number_series(numbers)
    column = np.full(len(texts), np.nan)
    column[np.fromiter(map(bool, texts), bool, len(texts))] = numbers
    return pd.Series(column)


def number_series(values: Sequence[int | float | None]) -> pd.Series[Any]:
    """Whole numbers where all are and none is missing, else floats."""
    import pandas as pd

    whole = all(isinstance(value, int) and abs(value) < _MAX_INTEGER for value in values)
    return pd.Series(values, dtype="int64" if whole and len(values) else "float64")


def are_numbers(words: Collection[str], numbers: Collection[int | float], wrong: int, total: int) -> bool:
    """Whether a column is one of numbers, in spite of some cells that are none.

    Nobody has declared what it is.
    """
    if any(LEADING_ZERO.match(word) for word in words) or any(
        abs(number) >= _MAX_INTEGER for number in numbers if isinstance(number, int)
    ):
        return False
    share = MAX_MISFITS if len(numbers) > MAX_CODES else MAX_MISFITS / 5
    return len(numbers) > 0 and wrong <= share * (total - wrong)


class NumberParser:
    """Read numbers with one decimal mark.

    The other mark, a blank or an apostrophe may divide thousands.
    """

    def __init__(self, decimal: str) -> None:
        self._decimal = decimal
        marks = f"{',' if decimal == '.' else '.'}' \xa0\u202f\u2019"
        self._form = re.compile(
            rf"[+-]?(?:[1-9]\d{{0,2}}(?:(?P<mark>[{marks}])\d{{3}}(?:(?P=mark)\d{{3}})*)|\d*)"
            rf"(?P<part>{re.escape(decimal)}\d*)?(?P<power>[eE][+-]?\d{{1,4}})?",
            re.ASCII,
        )

    def __call__(self, word: str) -> int | float | None:
        """The number, or None where it is none or is infinite."""
        found = self._form.fullmatch(word)
        if found is None:
            return None
        plain = word.replace(found["mark"], "") if found["mark"] else word
        try:
            if found["part"] is None and found["power"] is None:
                return int(plain)
            number = float(plain.replace(self._decimal, "."))
        except ValueError:
            return None
        return number if math.isfinite(number) else None


def may_be_grouped(texts: Iterable[str]) -> bool:
    """Whether the points in a column may divide thousands, as in 1.234."""
    pointed = (text for text in texts if "." in text)
    first = next(pointed, None)
    return first is not None and _GROUPED.fullmatch(first) is not None and all(map(_GROUPED.fullmatch, pointed))


def find_decimal(file: Path, columns: Mapping[str, Sequence[str]]) -> str:
    """Find the decimal mark of a file's numbers; a point where nothing shows it.

    Raises:
        PlumblineError: both marks are shown, or 1,234 can be meant in two ways.
    """
    mark, unsure = shown_decimal(file, columns)
    if unsure:
        raise PlumblineError(f"{file}: {unsure} can be meant in two ways; say --decimal . or --decimal ,")
    return mark or "."


def shown_decimal(file: Path, columns: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The decimal mark that numbers show, or else one with two readings; each may be empty.

    A column of numbers shows it where one reading alone fits: 1,5 and 1.234,5 have a decimal comma, 1.5 and 1,234.5 a
    decimal point.

    Raises:
        PlumblineError: both marks are shown.
    """
    parsers = {mark: NumberParser(mark) for mark in ".,"}
    shown: dict[str, str] = {}
    unsure: list[str] = []
    for name, cells in columns.items():
        words = {word for cell in cells if (word := str(cell).strip()) and word.lower() not in MISSING_WORDS}
        fits = {mark: {word for word in words if parse(word) is not None} for mark, parse in parsers.items()}
        if len(fits["."] | fits[","]) < (1 - MAX_MISFITS) * len(words):
            continue
        only = {mark: min(fits[mark] - fits[other], default="") for mark, other in (".,", ",.")}
        shown |= {mark: f"{word} in column {name!r}" for mark, word in only.items() if word}
        unsure += [f"{word} in column {name!r}" for word in sorted(words) if "," in word][: not any(only.values())]
    if len(shown) > 1:
        raise PlumblineError(f"{file}: two decimal marks: {shown['.']}, {shown[',']}; say --decimal . or --decimal ,")
    return next(iter(shown), ""), "" if shown else next(iter(unsure), "")
