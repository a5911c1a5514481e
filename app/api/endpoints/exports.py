"""Exports as JSON lines, CSV and Parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from io import RawIOBase, StringIO
from typing import Any, Literal, Protocol, TypeAlias

import orjson

from app.errors import FieldError, Invalid, PlumblineError
from app.store.tables import from_text
from app.types import Feature, FeatureType, Label, ModelSchema, Task, label_key, label_keys

HEAD = ("prediction_id", "model_name", "model_version", "predicted_at", "prediction")
TAIL = ("outcome", "value", "observed_at")


def columns(schema: ModelSchema) -> list[tuple[str, str]]:
    """Name and type of every column: Arrow's names of types, and ``time``."""
    one_task = bool(schema.classes) != (schema.task is Task.REGRESSION)
    label = (_type_of(schema.classes) if schema.classes else "double") if one_task else "string"
    return [
        *zip(HEAD, ("string", "string", "string", "time", label), strict=True),
        *((f"feature.{feature.name}", _type_of_feature(feature)) for feature in schema.features),
        *((f"probability.{label_key(each)}", "double") for each in schema.classes),
        *zip(TAIL, (label, "double", "time"), strict=True),
        ("context", "string"),
    ]


def _type_of_feature(feature: Feature) -> str:
    if feature.type is FeatureType.CATEGORICAL:
        return _type_of(feature.categories)
    return "bool" if feature.type is FeatureType.BOOLEAN else "double"


def _type_of(labels: tuple[Label, ...]) -> str:
    kinds = {type(label) for label in labels}
    return {bool: "bool", int: "int64", float: "double"}.get(kinds.pop(), "string") if len(kinds) == 1 else "string"


def _number(cell: Any) -> float | None:
    return float(cell) if isinstance(cell, int | float) else None


def _whole(cell: Any) -> int | None:
    return int(cell) if isinstance(cell, int | float) and int(cell) == cell else None


def _text(cell: Any) -> str | None:
    return cell if cell is None or isinstance(cell, str) else orjson.dumps(cell).decode()


def _flag(cell: Any) -> bool | None:
    return bool(cell) if cell in (0, 1) else None


def _time(cell: str | None) -> datetime | None:
    return None if cell is None else datetime.fromisoformat(cell)


CASTS: dict[str, Callable[[Any], Any]] = {
    "double": _number,
    "int64": _whole,
    "string": _text,
    "bool": _flag,
    "time": _time,
}


MISSING = "Parquet needs pyarrow, which is not installed: pip install 'plumbline[parquet]'"
GROUP_ROWS = 2_000
"""Rows of a row group, which wait in memory until it is full; to write one keeps every other thread from Python."""


def import_parquet() -> Any:
    """The module ``pyarrow.parquet``.

    Raises:
        PlumblineError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise PlumblineError(MISSING) from None
    return pyarrow.parquet


class ParquetPages:
    """Rows with the columns of the CSV export, typed by a model's schema.

    What does not fit its column's type is null. Called with a page of
    rows, it gives the bytes that are ready; :meth:`end` gives the last ones.
    """

    def __init__(self, schema: ModelSchema) -> None:
        parquet = import_parquet()
        import pyarrow

        self._features = list(schema.feature_names)
        self._classes = [label_key(label) for label in schema.classes]
        self._columns = columns(schema)
        types = {"time": pyarrow.timestamp("us", "UTC")}
        self._schema = pyarrow.schema(
            [(name, types.get(kind) or pyarrow.type_for_alias(kind)) for name, kind in self._columns]
        )
        self._table = pyarrow.Table
        self._sink = _Sink()
        self._writer = parquet.ParquetWriter(pyarrow.PythonFile(self._sink, mode="w"), self._schema)
        self._waiting: list[list[Any]] = []

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """One page."""
        self._waiting += [self._cells(row) for row in rows]
        if len(self._waiting) >= GROUP_ROWS:
            self._write()
        return self._sink.take()

    def end(self) -> bytes:
        """The rows that waited, and the footer."""
        self._write()
        self._writer.close()
        return self._sink.take()

    def _write(self) -> None:
        if self._waiting:
            columns = zip(*self._waiting, strict=True)
            arrays = {name: list(column) for name, column in zip(self._schema.names, columns, strict=True)}
            self._writer.write_table(self._table.from_pydict(arrays, schema=self._schema))
            self._waiting = []

    def _cells(self, row: Mapping[str, Any]) -> list[Any]:
        probabilities, outcome = row["probabilities"] or {}, row["outcome"] or {}
        cells = [
            *(row[name] for name in HEAD),
            *(row["features"].get(name) for name in self._features),
            *(probabilities.get(name) for name in self._classes),
            *(outcome.get(name) for name in TAIL),
            row["context"] or None,
        ]
        return [CASTS[kind](cell) for cell, (_, kind) in zip(cells, self._columns, strict=True)]


class _Sink(RawIOBase):
    """A file that is taken away as it is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, part: Any) -> int:
        """Keep a part."""
        self._parts.append(bytes(part))
        self._place += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """The bytes written so far."""
        return self._place

    def take(self) -> bytes:
        """The bytes since the last call."""
        taken, self._parts = b"".join(self._parts), []
        return taken


Format: TypeAlias = Literal["jsonl", "csv", "parquet"]
MEDIA: dict[Format, str] = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


class Pages(Protocol):
    """Renders the pages of one export, in order."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """One page."""

    def end(self) -> bytes:
        """Give the end of the export, after the last page."""


def renderer(form: Format, schema: ModelSchema) -> Pages:
    """Render one export with the columns of ``schema``, which also gives Parquet its types.

    Raises:
        Invalid: the format is Parquet, and pyarrow is not installed.
    """
    if form == "parquet":
        try:
            return ParquetPages(schema)
        except PlumblineError as error:
            raise Invalid([FieldError("format", "jsonl or csv", str(error))], "query") from None
    return CsvPages(schema) if form == "csv" else JsonLines()


def join_schemas(active: ModelSchema, loaded: Sequence[ModelSchema], noted: Sequence[Mapping[str, Any]]) -> ModelSchema:
    """Join the schemas of all versions.

    An export then has a column for whatever one of them takes or answers.

    Args:
        loaded: schemas whose types are known.
        noted: versions that the store knows, with the names of their features alone; their columns are text.
    """
    features: dict[str, Feature] = {}
    for feature in (feature for schema in (active, *loaded) for feature in schema.features):
        before = features.setdefault(feature.name, feature)
        if before.type is not feature.type and not (before.type.is_number and feature.type.is_number):
            features[feature.name] = Feature(feature.name, FeatureType.CATEGORICAL)
    classes, tasks = dict.fromkeys(active.classes), {active.task}
    for row in noted:
        described = from_text(row["schema"])
        for name in described["features"]:
            features.setdefault(name, Feature(name, FeatureType.CATEGORICAL))
        classes |= dict.fromkeys(described["classes"])
        tasks.add(Task(described["task"]))
    task = Task.REGRESSION if Task.REGRESSION in tasks else active.task
    return replace(active, task=task, features=tuple(features.values()), classes=tuple(classes))


class JsonLines:
    """Rows as JSON, one a line."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """One page."""
        return b"".join(orjson.dumps(row) + b"\n" for row in rows)

    def end(self) -> bytes:
        """Nothing."""
        return b""


FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that a spreadsheet may run."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def harmless(cell: object) -> object:
    """A cell of a CSV file that no spreadsheet takes for a formula; numbers stay.

    >>> harmless("=1+1"), harmless("-1.5"), harmless(-1.5)
    ("'=1+1", '-1.5', -1.5)
    """
    if isinstance(cell, str) and FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


class CsvPages:
    """Rows with one column a feature (``feature.age``) and one a class (``probability.good``).

    The columns are those of all versions; each row fills those that its version has. Text that a spreadsheet would run
    as a formula begins with an apostrophe.
    """

    def __init__(self, schema: ModelSchema) -> None:
        self._features = list(schema.feature_names)
        self._classes = list(label_keys(schema.classes))
        self._begun = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """One page; the first begins with the header."""
        text = StringIO()
        writer = csv.writer(text)
        if not self._begun:
            self._begun = True
            named = [
                *(f"feature.{name}" for name in self._features),
                *(f"probability.{name}" for name in self._classes),
            ]
            writer.writerow(map(harmless, [*HEAD, *named, *TAIL, "context"]))
        writer.writerows([harmless(cell) if type(cell) is str else cell for cell in self._cells(row)] for row in rows)
        return text.getvalue().encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""

    def _cells(self, row: Mapping[str, Any]) -> list[object]:
        probabilities, outcome = row["probabilities"] or {}, row["outcome"] or {}
        return [
            *(row[name] for name in HEAD),
            *(row["features"].get(name) for name in self._features),
            *(probabilities.get(name) for name in self._classes),
            *(outcome.get(name) for name in TAIL),
            orjson.dumps(row["context"]).decode() if row["context"] else "",
        ]
