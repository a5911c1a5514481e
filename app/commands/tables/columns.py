"""The type of each column.

It comes from the model or a schema where they know it, else from its cells.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.commands.tables.dialect import (
    FRACTION,
    MISSING_WORDS,
    Dialect,
    NumberParser,
    are_numbers,
    find_decimal,
    may_be_grouped,
    number_series,
    plain_numbers,
)
from app.commands.tables.reader import Table, read_table, require_columns
from app.errors import BundleError, PlumblineError
from app.types import Feature, FeatureType, Label, label_key

if TYPE_CHECKING:
    import pandas as pd

_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Misfits:
    """Cells that are not of their column's type.

    Attributes:
        count: of how many cells that are not empty.
        row, text: the first of them.
    """

    column: str
    kind: str
    count: int
    total: int
    row: int
    text: str

    @property
    def most(self) -> bool:
        """Whether most cells of the column do not fit: it is then left as text."""
        return self.count * 2 > self.total

    def __str__(self) -> str:
        """One line that names the column, and the first cell."""
        cells = "1 cell is" if self.count == 1 else f"{self.count} of {self.total} cells are"
        return f"column {self.column!r}: {cells} no {self.kind} (row {self.row}: {self.text[:30]!r})"


@dataclass(slots=True)
class Columns:
    """A table with typed columns.

    Attributes:
        misfits: by column, of the columns that have any.
        notes: what was assumed, each a few words.
    """

    file: Path
    frame: pd.DataFrame
    misfits: dict[str, Misfits]
    notes: list[str]

    def assumptions(self) -> str:
        """One line on what was assumed; empty where nothing was."""
        taken = (f"{each}, taken as {'text' if each.most else 'missing'}" for each in self.misfits.values())
        notes = [*self.notes, *taken]
        return f"{self.file}: {'; '.join(notes)}" if notes else ""

    def missing(self) -> list[tuple[str, Misfits]]:
        """The columns with cells that are taken as missing, without those that are taken as text."""
        return [(name, each) for name, each in self.misfits.items() if not each.most]

    def refuse_misfits(self) -> None:
        """Refuse a table with a column of which most cells are not of its type."""
        for misfits in self.misfits.values():
            if misfits.most:
                raise BundleError(f"{self.file}: {misfits}")


class Labels:
    """Classes by the cells that stand for them.

    ``True``, ``true``, ``1``, ``1.0`` and ``1,0`` are the class true, and the class 1; ``1`` is the class "1" too.
    """

    def __init__(self, classes: Iterable[Label]) -> None:
        self.classes = tuple(classes)
        self._exact: dict[str, Label] = {}
        for label in self.classes:
            self._exact |= {str(label): label, label_key(label): label}

    def __call__(self, cell: str) -> Label | None:
        """The class that a cell means, or None."""
        text = cell.strip()
        for known in (cell, text, FRACTION.sub("", text)):
            if known in self._exact:
                return self._exact[known]
        words = [label for label in self.classes if text.lower() in _FLAGS and str(label).lower() == text.lower()]
        if len(words) == 1:
            return words[0]
        number = _FLAGS.get(text.lower(), _as_number(text))
        return next((label for label in self.classes if not isinstance(label, str) and label == number), None)


_DECIMAL_COMMA = re.compile(r"[+-]?\d+,(?!\d{3}$)\d+", re.ASCII)


def _as_number(text: str) -> float | None:
    try:
        return float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)
    except ValueError:
        return None


def read_columns(
    file: Path,
    dialect: Dialect,
    *,
    names: Sequence[str] | None = None,
    known: Mapping[str, Feature] | None = None,
    classes: Mapping[str, Sequence[Label]] | None = None,
    as_written: Sequence[str] = (),
) -> Columns:
    """Read a table, and give each column its type.

    Args:
        names: the columns that are needed; None: all that the file has.
        known: columns whose type and categories are known.
        classes: columns whose classes are known.
        as_written: columns of times, left as the file has them where they are there.

    Raises:
        BundleError: the file cannot be read, or lacks a column; one line says why.
    """
    import pandas as pd

    try:
        table = read_table(file, dialect, keep=(*(names or ()), *(classes or ()), *as_written))
        require_columns(file, table.columns, names or ())
        written = [name for name in as_written if name in table.columns]
        chosen = list(dict.fromkeys([*names, *written])) if names is not None else list(table.columns)
        typing = Typing(table, dialect, {**dict.fromkeys(chosen), **(known or {})}, classes or {}, set(as_written))
        columns = {name: typing.column(name) for name in chosen}
    except BundleError:
        raise
    except PlumblineError as error:
        raise BundleError(str(error)) from None
    frame = pd.DataFrame(columns, columns=chosen, index=pd.RangeIndex(table.rows))
    words = [f"{word!r} {taken} in {_listed(names)}" for (word, taken), names in typing.words.items()]
    words += [f"points divide thousands in {_listed(typing.grouped)}"] if typing.grouped else []
    return Columns(file, frame, typing.misfits, [*table.notes, *typing.notes, *words])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004 - enough to see


@dataclass
class Typing:
    """Gives the columns of one table their types."""

    table: Table
    dialect: Dialect
    known: Mapping[str, Feature | None]
    classes: Mapping[str, Sequence[Label]]
    as_written: set[str]
    misfits: dict[str, Misfits] = field(default_factory=dict)
    words: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    grouped: list[str] = field(default_factory=list)

    def column(self, name: str) -> pd.Series[Any]:
        """One column, as pandas would hold it."""
        import pandas as pd

        cells, feature = self.table.columns[name], self.known.get(name)
        ready = not isinstance(cells, list) and name not in self.classes and not self.dialect.missing
        if name in self.as_written or (ready and _holds(pd.Series(cells), feature)):
            return pd.Series(cells)
        texts = [cell_text(cell) for cell in cells] if self.table.typed else list(cells)
        if classes := self.classes.get(name):
            return self._labels(texts, Labels(classes))
        plain = self.table.typed and _all_text([cell for cell, text in zip(cells, texts, strict=True) if text])
        kind = feature.type if feature is not None else FeatureType.CATEGORICAL if plain else None
        if kind is FeatureType.CATEGORICAL:
            return self._categories(name, texts, feature)
        if kind is FeatureType.BOOLEAN:
            return self._booleans(name, texts)
        return self._numbers(name, texts, declared=kind is not None)

    @cached_property
    def _decimal(self) -> str:
        """The decimal mark, given or found in the columns that may hold numbers."""
        if self.table.typed:
            return self.dialect.decimal or "."
        columns = {
            name: list(self.table.columns[name])
            for name, feature in self.known.items()
            if name in self.table.columns
            and name not in self.classes
            and name not in self.as_written
            and (feature is None or feature.type is not FeatureType.CATEGORICAL)
        }
        mark = self.dialect.decimal or find_decimal(self.table.file, columns)
        if mark == ",":
            self.notes.append("decimal comma")
        return mark

    def _labels(self, texts: Sequence[str], labels: Labels) -> pd.Series[Any]:
        """The classes; a cell that is none stays as it is, for the caller to refuse."""
        import pandas as pd

        found: dict[str, Label | None] = {}
        for text in set(texts):
            label = labels(text)
            gone = self._is_missing(text.strip(), also=MISSING_WORDS)
            found[text] = text if label is None and not gone else label
        values = [found[text] for text in texts]
        return pd.Series(values, dtype=object if None in values and not _all_text(values) else None)

    def _booleans(self, name: str, texts: Sequence[str]) -> pd.Series[Any]:
        column = self._labels(texts, Labels((False, True)))
        wrong = Counter(value for value in column if isinstance(value, str))
        if not wrong:
            return column
        self._note_misfits(name, "boolean", texts, wrong, int(column.notna().sum()))
        return column if self.misfits[name].most else column.where(~column.isin(wrong), None)

    def _categories(self, name: str, texts: Sequence[str], feature: Feature | None) -> pd.Series[Any]:
        """Text as it stands; the model's categories, where they are known."""
        import pandas as pd

        known = feature.categories if feature is not None else ()
        nullable = feature is not None and bool(known) and feature.nullable
        exact: dict[str, str | int] = {str(category): category for category in known}
        trimmed = {text.strip(): category for text, category in exact.items()}
        coded = any(isinstance(category, int) for category in known)
        found: dict[str, str | int | None] = {}
        for text in set(texts):
            word = text.strip()
            whole = FRACTION.sub("", word)  # which a column of codes with holes has
            if text in exact or word in trimmed:
                found[text] = exact.get(text, trimmed.get(word))
            elif whole in trimmed:
                found[text] = trimmed[whole]
            elif self._is_missing(word, also=MISSING_WORDS if nullable else ()):
                found[text] = None
            else:
                found[text] = int(whole) if coded and re.fullmatch(r"-?\d{1,15}", whole) else text
        self._tell_words(name, found)
        values = [found[text] for text in texts]
        return pd.Series(values, dtype=None if _all_text(values) else object)

    def _tell_words(self, name: str, words: Mapping[str, str | int | None]) -> None:
        """Note how words such as NA were taken."""
        for text, value in sorted(words.items(), key=lambda item: item[0]):
            if text.strip().lower() in MISSING_WORDS and text.strip() not in self.dialect.missing:
                taken = "counts as missing" if value is None else "is text"
                self.words.setdefault((text.strip(), taken), []).append(name)

    def _numbers(self, name: str, texts: list[str], *, declared: bool) -> pd.Series[Any]:
        """Read numbers or booleans.

        The values stay text where they are none, and it is not declared that they are.
        """
        import pandas as pd

        grouped = not self.table.typed and may_be_grouped(texts) and self._decimal == ","
        plain = None if self.dialect.missing or grouped else plain_numbers(texts, declared=declared)
        if plain is not None:
            return plain
        counts = Counter(texts)
        words = {text: text.strip() for text in counts}
        present = {text: word for text, word in words.items() if not self._is_missing(word, also=MISSING_WORDS)}
        if not present and (declared or all(map(self._is_missing, words.values()))):
            return pd.Series([math.nan] * len(texts), dtype=float)
        flags = {text: _FLAGS[word.lower()] for text, word in present.items() if word.lower() in _FLAGS}
        if present and len(flags) == len(present):
            values = [flags.get(text) for text in texts]
            return pd.Series(values, dtype=object if len(flags) < len(counts) else bool)
        parse = NumberParser(self._decimal if grouped or any("," in word for word in present.values()) else ".")
        numbers = {text: number for text, word in present.items() if (number := parse(word)) is not None}
        wrong = Counter({text: counts[text] for text in present.keys() - numbers.keys()})
        total = sum(counts[text] for text in present)
        if not declared and not are_numbers(present.values(), numbers.values(), wrong.total(), total):
            return self._categories(name, texts, None)
        if wrong:
            self._note_misfits(name, "number", texts, wrong, total)
        if name in self.misfits and self.misfits[name].most:
            return self._categories(name, texts, None)
        self._tell_words(name, dict.fromkeys(words))
        self.grouped += [name] if grouped else []
        return number_series([numbers.get(text) for text in texts])

    def _note_misfits(self, name: str, kind: str, texts: Sequence[str], wrong: Counter[str], total: int) -> None:
        row = next(row for row, text in enumerate(texts) if text in wrong)
        self.misfits[name] = Misfits(name, kind, wrong.total(), total, row + 1, texts[row])

    def _is_missing(self, word: str, also: Collection[str] = ()) -> bool:
        return not word or word in self.dialect.missing or word.lower() in also


def _holds(column: pd.Series[Any], feature: Feature | None) -> bool:
    """Whether a typed column needs no reading.

    Its type is the known one, or one that nobody has to find.
    """
    from pandas.api import types

    number = types.is_numeric_dtype(column.dtype)
    if feature is None:
        return number or not (types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype))
    if feature.type is FeatureType.CATEGORICAL:
        return isinstance(column.dtype, types.CategoricalDtype) or (number and not _texts(feature.categories))
    return bool(number)


def _texts(values: Iterable[object]) -> bool:
    return any(isinstance(value, str) for value in values)


def cell_text(cell: object) -> str:
    """A cell as text; a missing one is empty."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, dict | list):
        return json.dumps(cell, default=str)
    if isinstance(cell, np.ndarray):  # a list in Parquet
        return json.dumps(cell.tolist(), default=str)
    if cell is None or str(cell) in ("nan", "NaT", "<NA>"):
        return ""
    return cell.isoformat() if hasattr(cell, "isoformat") else str(cell)


def _all_text(values: Sequence[object]) -> bool:
    return any(isinstance(value, str) for value in values) and all(
        value is None or isinstance(value, str) for value in values
    )
