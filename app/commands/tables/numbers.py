"""Numbers in text: the decimal mark, thousands, and whether a column is one of numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import PlumblineError

if TYPE_CHECKING:
    import pandas as pd

MISSING_WORDS = frozenset(
    {
        "na",
        "n/a",
        "nan",
        "-nan",
        "none",
        "null",
        "<na>",
        "#n/a",
        "#na",
        "#n/a n/a",
        "nat",
        "1.#qnan",
        "-1.#ind",
        "1.#ind",
    }
)
"""What programs write for a missing value, in lower case. In text these are words, unless the model says otherwise."""
MAX_MISFITS = 0.05
"""Share of cells that may be no numbers in a column of numbers that nobody has declared."""
MAX_CODES = 20
"""A column with no more different numbers may hold codes, and tolerates fewer cells that are no numbers."""
_NO_NUMBER = re.compile(r"[^0-9eE.+\-\n]")
_NO_INTEGER = re.compile(r"[eE.]")
LEADING_ZERO = re.compile(r"^[+-]?0\d", re.MULTILINE)
_MAX_INTEGER = 1 << 63


def plain_numbers(texts: Sequence[str], *, declared: bool) -> pd.Series[Any] | None:
    """The numbers of a column of nothing but plain numbers and empty cells; None of another."""
    present = [text for text in texts if text]
    joined = "\n".join(present)
    if not present or _NO_NUMBER.search(joined) or (not declared and LEADING_ZERO.search(joined)):
        return None
    try:
        if _NO_INTEGER.search(joined):
            values: list[Any] = [float(text) if text else None for text in texts]
        else:
            values = [int(text) if text else None for text in texts]
    except ValueError:
        return None
    if any(value is not None and not -_MAX_INTEGER < value < _MAX_INTEGER for value in values):
        return None
    return number_series(values)


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
            rf"[+-]?(?:\d{{1,3}}(?:(?P<mark>[{marks}])\d{{3}}(?:(?P=mark)\d{{3}})*)|\d*)"
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


def find_decimal(file: Path, columns: Mapping[str, Sequence[str]]) -> str:
    """Find the decimal mark of a file's numbers.

    A column of numbers shows it where one reading alone fits: 1,5 and 1.234,5 have a decimal comma, 1.5 and 1,234.5 a
    decimal point.

    Raises:
        PlumblineError: both marks are shown, or 1,234 can be meant in two ways.
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
    if unsure and not shown:
        raise PlumblineError(f"{file}: {unsure[0]} can be meant in two ways; say --decimal . or --decimal ,")
    return next(iter(shown), ".")
