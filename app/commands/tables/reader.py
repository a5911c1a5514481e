"""One reader of CSV, TSV, JSON lines and Parquet for every command."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from app.api.endpoints.exports import FORMULA, import_parquet
from app.commands.tables.dialect import Dialect, TextFile
from app.errors import PlumblineError, one_line

if TYPE_CHECKING:
    import pandas as pd

PARQUET = (".parquet", ".pq")
JSON_LINES = (".jsonl", ".ndjson", ".json")
SPREADSHEETS = (".xlsx", ".xls", ".xlsb", ".xlsm", ".ods", ".numbers")
MAX_LISTED_CHARACTERS = 500
"""Characters of the names in a message."""
_PARQUET_ROWS = 1_000
_INDEX = re.compile(r"Unnamed: 0(\.\d+)*|__index_level_\d+__")
"""Names of columns that hold a DataFrame's index."""

Cells: TypeAlias = "list[Any] | pd.Series[Any]"


@dataclass(slots=True)
class Table:
    """A table as its file has it.

    Attributes:
        columns: cells by the column's name: text from CSV, typed from JSON lines and Parquet.
        typed: whether the file's format has types.
        notes: what was assumed, each a few words.
    """

    file: Path
    columns: dict[str, Cells]
    rows: int
    typed: bool
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        number: counted from 1, without a header.
        done: bytes of the file read so far (rows, in a Parquet file), for a progress bar.
        cells: by the column's name; None where the row cannot be read.
        problem: why not.
    """

    number: int
    done: int
    cells: Mapping[str, Any] | None
    problem: str | None = None


def read_table(file: Path, dialect: Dialect, *, keep: Collection[str] = ()) -> Table:
    """Read a whole file.

    Args:
        keep: names that are needed, also where they look like those of an index.

    Raises:
        PlumblineError: the file cannot be read, or a row of it; one line says why.
    """
    with _refusals(file):
        if file.suffix.lower() in PARQUET:
            return _parquet_table(file, keep)
        if file.suffix.lower() in JSON_LINES:
            return _tidy(_json_table(file), keep, {})
        text = TextFile.open(file, dialect)
        rows = [_restored(cells) for _, _, cells in text.rows()]
        columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in text.names)
        named: dict[str, Cells] = dict(zip(text.names, columns, strict=True))
        return _tidy(Table(file, named, len(rows), False, text.notes()), keep, text.doubles)


def read_records(file: Path, dialect: Dialect, needed: Sequence[str]) -> Iterator[Record]:
    """Read a file row by row, for files larger than memory.

    Raises:
        PlumblineError: the file cannot be read, or lacks a column that is needed.
    """
    with _refusals(file):
        if file.suffix.lower() in PARQUET:
            yield from _parquet_records(file, needed)
        elif file.suffix.lower() in JSON_LINES:
            yield from _json_records(file)
        else:
            text = TextFile.open(file, dialect)
            require_columns(file, text.names, needed)
            if twice := [first for first in text.doubles.values() if first in needed]:
                raise PlumblineError(f"{file}: two columns are named {twice[0]!r}; rename one")
            for number, done, cells in text.rows():
                yield Record(number, done, dict(zip(text.names, _restored(cells), strict=False)))


def _restored(cells: Sequence[Any]) -> list[Any]:
    """Cells without the apostrophe that an export puts before text like a formula.

    >>> _restored(["'=1+1", "'tis", None])
    ['=1+1', "'tis", None]
    """
    return [cell[1:] if cell and cell[0] == "'" and FORMULA.match(cell, 1) else cell for cell in cells]


def assumptions(file: Path, dialect: Dialect) -> str:
    """One line on what is assumed of a file that is read row by row; empty where nothing is."""
    if file.suffix.lower() in (*PARQUET, *JSON_LINES):
        return ""
    with _refusals(file):
        notes = TextFile.open(file, dialect).notes()
    return f"{file}: {'; '.join(notes)}" if notes else ""


def size_of(file: Path) -> int:
    """Give the value of ``Record.done`` at the end of the file."""
    with _refusals(file):
        if file.suffix.lower() in PARQUET:
            with _open_parquet(file) as table:
                return int(table.metadata.num_rows)
        return file.stat().st_size


def require_columns(file: Path, names: Collection[str], needed: Sequence[str]) -> None:
    """Refuse a file that lacks a column; names are quoted, so that blanks are seen."""
    if absent := [name for name in needed if name not in names]:
        listed = ", ".join(map(repr, list(names)[:30])) or "none"
        has = listed if len(listed) <= MAX_LISTED_CHARACTERS else f"{listed[:MAX_LISTED_CHARACTERS]} ..."
        numbers = len(names) > 1 and all(re.fullmatch(r"-?\d*\.?\d+", name) for name in names)
        hint = "; all are numbers: does the file lack its line of names?" if numbers else ""
        missing = ", ".join(map(repr, absent[:10]))
        raise PlumblineError(f"{file}: lacks the column(s) {missing}; it has {has}{hint}")


@contextmanager
def _refusals(file: Path) -> Iterator[None]:
    """Turn what reading raises into one line."""
    if file.suffix.lower() in SPREADSHEETS:
        raise PlumblineError(f"{file}: the suffix is a spreadsheet's: save it as CSV (UTF-8)")
    try:
        yield
    except OSError as error:
        raise PlumblineError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeError:
        raise PlumblineError(f"{file}: is not UTF-8 text; save it as CSV (UTF-8)") from None
    except EOFError:
        raise PlumblineError(f"{file}: cannot be read: its compressed data ends too early") from None


def _tidy(table: Table, keep: Collection[str], doubles: Mapping[str, str]) -> Table:
    """Leave out columns that are none of the data, and name the others as they are needed."""
    blanks = {name.strip(): name for name in keep if name not in table.columns and name.strip() not in keep}
    columns = table.columns = {blanks.get(name, name): cells for name, cells in table.columns.items()}
    for name in [name for name in columns if name not in keep]:
        cells, first = columns[name], doubles.get(name, "")
        if _INDEX.fullmatch(name):
            table.notes.append(f"column {name!r} left out, as an index")
            del columns[name]
        elif name.startswith("Unnamed: ") and not any(cells):
            del columns[name]
        elif first and cells == columns.get(first):
            table.notes.append(f"column {first!r} is there twice, with the same cells")
            del columns[name]
        elif first in keep:
            raise PlumblineError(f"{table.file}: two columns are named {first!r}, and their cells differ; rename one")
        elif first:
            table.notes.append(f"another column {first!r} is read as {name!r}")
    return _named_features(table, keep)


_RECORD = ("prediction_id", "model_name", "model_version", "predicted_at", "observed_at", "context", "revisions")
"""Columns of an export that say which row it is, and nothing about what is in it."""


def _named_features(table: Table, keep: Collection[str]) -> Table:
    """In an export, a feature takes its own name, before columns that every export has."""
    features = [name for name in table.columns if name.startswith("feature.")]
    if "prediction_id" not in table.columns or not features:
        return table
    own = {name.removeprefix("feature.") for name in features}
    if "outcome" in own:
        raise PlumblineError(f"{table.file}: the export has a feature and a truth named 'outcome'; rename one column")
    left_out = {*own, *(name for name in _RECORD if name not in keep)}
    table.columns = {
        name.removeprefix("feature."): cells for name, cells in table.columns.items() if name not in left_out
    }
    table.notes.append("an export: its columns feature.NAME are read as NAME, ids and times left out")
    return table


def _json_table(file: Path) -> Table:
    rows: list[Mapping[str, Any]] = []
    for record in _json_records(file):
        if record.cells is None:
            raise PlumblineError(f"{file}: row {record.number} {record.problem}")
        rows.append(record.cells)
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(file, {name: [row.get(name) for row in rows] for name in names}, len(rows), True)


def _json_records(file: Path) -> Iterator[Record]:
    number = done = 0
    with file.open("rb") as source:
        for line in source:
            done += len(line)
            text = line.decode("utf-8-sig" if done == len(line) else "utf-8").strip()
            if not text:
                continue
            number += 1
            try:
                row = json.loads(text)
                text.encode() if "\\u" not in text else json.dumps(row, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                yield Record(number, done, None, f"is not JSON: {str(error)[:200]}")
                continue
            if isinstance(row, dict):
                yield Record(number, done, _flat(row))
            else:
                yield Record(number, done, None, "is not a JSON object")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """The cells of a row; an exported prediction's under the names of the CSV export."""
    cells: dict[str, Any] = {}
    exported = "prediction_id" in row
    for name, value in row.items():
        if exported and name in _NESTED and isinstance(value, dict):
            cells |= {f"{_NESTED[name]}{key}": each for key, each in value.items()}
        elif isinstance(value, dict | list):
            cells[name] = json.dumps(value)
        else:
            cells[name] = value
    return cells


_NESTED = {"features": "feature.", "probabilities": "probability.", "outcome": ""}
"""Objects in an exported row, and what their keys begin with."""


def _parquet_table(file: Path, keep: Collection[str]) -> Table:
    import pandas as pd

    import_parquet()
    with _parquet_refusals(file):
        frame = pd.read_parquet(file).reset_index(drop=True)
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise PlumblineError(f"{file}: two columns have one name")
    columns: dict[str, Cells] = {name: frame.iloc[:, place] for place, name in enumerate(names)}
    table = Table(file, columns, len(frame), True)
    for name in [name for name in names if _INDEX.fullmatch(name) and name not in keep]:
        table.notes.append(f"column {name!r} left out, as an index")
        del columns[name]
    return _named_features(table, keep)


def _parquet_records(file: Path, needed: Sequence[str]) -> Iterator[Record]:
    with _parquet_refusals(file), _open_parquet(file) as table:
        require_columns(file, table.schema_arrow.names, needed)
        number = 0
        for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield Record(number, number, row)


def _open_parquet(file: Path) -> Any:
    with _parquet_refusals(file):
        return import_parquet().ParquetFile(file)


@contextmanager
def _parquet_refusals(file: Path) -> Iterator[None]:
    """Turn what pyarrow raises into one line."""
    try:
        yield
    except OSError as error:
        if error.strerror:
            raise
        raise PlumblineError(f"{file}: is no Parquet file: {one_line(error)}") from None
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:  # pyarrow's errors are among these
        raise PlumblineError(f"{file}: is no Parquet file: {one_line(error)}") from None
