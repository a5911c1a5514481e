"""Files of outcomes (CSV, JSON lines, Parquet), row by row, as ``POST /outcome`` takes them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from app.api.endpoints.parquet import import_parquet
from app.errors import PlumblineError
from app.types import Json, Label

FIELDS = ("prediction_id", "outcome", "value", "observed_at", "revise")
"""Columns that are sent; others, such as those of an export, are left out."""
_PARQUET_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the file.

    Attributes:
        number: counted from 1, without a header.
        done: bytes of the file read so far (rows, in a Parquet file), for the progress bar.
        item: the outcome to send, or None for a row without one.
        problem: why the row cannot be sent, or None.
    """

    number: int
    done: int
    item: Json | None
    problem: str | None = None


Reader: TypeAlias = Callable[[Path, Mapping[str, Label]], Iterator[Line]]


def read_outcomes(file: Path, labels: Mapping[str, Label]) -> Generator[Line]:
    """Read every row of a file, by its suffix.

    ``labels`` are the classes by their text, which CSV needs.

    A row whose outcome is empty or null is the truth of nobody yet: its item is None.

    Raises:
        PlumblineError: the file cannot be read, is of another kind, or lacks a column.
    """
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise PlumblineError(f"{file}: the suffix is none of {', '.join(READERS)}")
    try:
        yield from reader(file, labels)
    except OSError as error:
        raise PlumblineError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise PlumblineError(f"{file}: is not UTF-8 text") from None


def size_of(file: Path) -> int:
    """Give the value of ``done`` at the end of the file."""
    if file.suffix.lower() == ".parquet":
        with _open_parquet(file) as table:
            return int(table.metadata.num_rows)
    return file.stat().st_size


def _csv(file: Path, labels: Mapping[str, Label]) -> Iterator[Line]:
    done = 0

    def lines() -> Iterator[str]:
        nonlocal done
        with file.open("rb") as source:
            for line in source:
                done += len(line)
                yield line.decode("utf-8-sig" if done == len(line) else "utf-8")

    rows = csv.DictReader(lines())
    _check_columns(file, rows.fieldnames or ())
    for number, row in enumerate(rows, start=1):
        try:
            yield Line(number, done, _from_text(row, labels))
        except ValueError as error:
            yield Line(number, done, None, str(error))


def _from_text(row: Mapping[str, str | None], labels: Mapping[str, Label]) -> Json | None:
    """The row with its cells typed; an empty cell is none."""
    given = {name: text for name in FIELDS if (text := row.get(name))}
    if "outcome" not in given and "" not in labels:
        return None
    item: Json = {**given, "outcome": _label(given.get("outcome", ""), labels)}
    if "value" in given:
        item["value"] = _number(given["value"], "value")
    if "revise" in given:
        item["revise"] = given["revise"].lower() in ("true", "1")
    return item


def _label(text: str, labels: Mapping[str, Label]) -> Label:
    """Read a label: a class by its text, else a number, else text.

    A number may be a class too: 1.0 is 1.
    """
    if text in labels:
        return labels[text]
    try:
        return _number(text, "outcome")
    except ValueError:
        return text


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number") from None


def _json_lines(file: Path, _labels: Mapping[str, Label]) -> Iterator[Line]:
    done = 0
    with file.open("rb") as source:
        for number, line in enumerate(source, start=1):
            done += len(line)
            try:
                row = json.loads(line)
            except ValueError as error:
                yield Line(number, done, None, f"is not JSON: {error}")
                continue
            problem = None if isinstance(row, dict) else "is not a JSON object"
            yield Line(number, done, None if problem else _from_object(row), problem)


def _from_object(row: Json) -> Json | None:
    """The row's own fields; of an exported prediction, those of its outcome."""
    nested = row.get("outcome")
    given = {**row, **nested} if isinstance(nested, dict) else row
    item = {name: given[name] for name in FIELDS if given.get(name) is not None}
    return item if "outcome" in item else None


def _parquet(file: Path, _labels: Mapping[str, Label]) -> Iterator[Line]:
    with _open_parquet(file) as table:
        _check_columns(file, table.schema_arrow.names)
        wanted = [name for name in FIELDS if name in table.schema_arrow.names]
        number = 0
        for batch in table.iter_batches(batch_size=_PARQUET_ROWS, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield Line(number, number, _from_object({name: _plain(value) for name, value in row.items()}))


def _open_parquet(file: Path) -> Any:
    try:
        return import_parquet().ParquetFile(file)
    except ValueError as error:  # pyarrow's ArrowInvalid is one
        raise PlumblineError(f"{file}: is no Parquet file: {error}") from None


def _plain(value: Any) -> Any:
    """A cell as JSON carries it: a time with its zone, UTC where it has none."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return value


def _check_columns(file: Path, names: Sequence[str]) -> None:
    if absent := [name for name in FIELDS[:2] if name not in names]:
        raise PlumblineError(f"{file}: lacks the column(s) {', '.join(absent)}")


READERS: dict[str, Reader] = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
