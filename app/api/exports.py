"""Stored predictions as lines of JSON, CSV or Parquet, a page at a time."""

from __future__ import annotations

import csv
import io
from typing import Literal, Protocol, TypeAlias

import orjson

from app.api.parquet import ParquetPages
from app.errors import FieldError, Invalid, PlumblineError
from app.types import Json, ModelSchema

Format: TypeAlias = Literal["jsonl", "csv", "parquet"]
MEDIA: dict[Format, str] = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_HEAD = ("prediction_id", "model_name", "model_version", "predicted_at", "prediction")
_TAIL = ("outcome", "value", "observed_at")


class Pages(Protocol):
    """Renders the pages of one export, in order."""

    def __call__(self, rows: list[Json]) -> bytes:
        """One page."""

    def end(self) -> bytes:
        """What comes after the last page."""


def renderer(form: Format, schema: ModelSchema) -> Pages:
    """What renders one export; ``schema`` gives Parquet its types.

    Raises:
        Invalid: the format is Parquet, and pyarrow is not installed.
    """
    if form == "parquet":
        try:
            return ParquetPages(schema)
        except PlumblineError as error:
            raise Invalid([FieldError("format", "jsonl or csv", str(error))]) from None
    return CsvPages() if form == "csv" else JsonLines()


class JsonLines:
    """Rows as JSON, one a line."""

    def __call__(self, rows: list[Json]) -> bytes:
        """One page."""
        return b"".join(orjson.dumps(row) + b"\n" for row in rows)

    def end(self) -> bytes:
        """Nothing."""
        return b""


class CsvPages:
    """Rows with one column a feature (``feature.age``) and one a class (``probability.good``).

    The first row decides on the columns; the rows of another model version fill those that they have.
    """

    def __init__(self) -> None:
        self._features: list[str] = []
        self._classes: list[str] = []
        self._begun = False

    def __call__(self, rows: list[Json]) -> bytes:
        """One page; the first begins with the header."""
        text = io.StringIO()
        writer = csv.writer(text)
        if rows and not self._begun:
            self._begun = True
            self._features, self._classes = list(rows[0]["features"]), list(rows[0]["probabilities"] or ())
            named = [
                *(f"feature.{name}" for name in self._features),
                *(f"probability.{name}" for name in self._classes),
            ]
            writer.writerow([*_HEAD, *named, *_TAIL, "context"])
        writer.writerows(self._cells(row) for row in rows)
        return text.getvalue().encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""

    def _cells(self, row: Json) -> list[object]:
        probabilities, outcome = row["probabilities"] or {}, row["outcome"] or {}
        return [
            *(row[name] for name in _HEAD),
            *(row["features"].get(name) for name in self._features),
            *(probabilities.get(name) for name in self._classes),
            *(outcome.get(name) for name in _TAIL),
            orjson.dumps(row["context"]).decode() if row["context"] else "",
        ]
