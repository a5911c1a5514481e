"""Files as they are, in every format: names, rows, exports, and refusals in one line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from app.api.endpoints.exports import renderer
from app.commands.outcomes import OutcomeReader
from app.commands.simulation.drift import read_samples
from app.commands.tables.dialect import Dialect
from app.commands.tables.reader import Record, Table, read_records, read_table, size_of
from app.errors import PlumblineError
from app.types import Feature, FeatureType, Json, ModelSchema, Task


def read(folder: Path, written: str | bytes, name: str = "table.csv", *, keep: tuple[str, ...] = ()) -> Table:
    """The table of a file with this content."""
    file = folder / name
    file.write_bytes(written.encode() if isinstance(written, str) else written)
    return read_table(file, Dialect(), keep=keep)


def zipped(content: bytes, *names: str) -> bytes:
    """A zip archive that holds the content once under each name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return file.getvalue()


def as_parquet(frame: pd.DataFrame) -> bytes:
    """The bytes of a Parquet file, with the frame's index."""
    file = io.BytesIO()
    frame.to_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("t.csv.gz", gzip.compress),
        ("t.csv.bz2", bz2.compress),
        ("t.csv.xz", lzma.compress),
        ("t.zip", lambda content: zipped(content, "t.csv")),
    ],
)
def test_compressed_text(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    """A table may be compressed; the progress stays within the file's size."""
    assert read(tmp_path, pack(b"a,b\n1,x\n"), name).columns == {"a": ["1"], "b": ["x"]}
    assert [0 < each.done <= size_of(tmp_path / name) for each in read_records(tmp_path / name, Dialect(), ["a"])] == [
        True
    ]


@pytest.mark.parametrize(
    ("written", "keep", "names"),
    [
        (",a,b\n0,1,2\n", (), ["a", "b"]),
        ("Unnamed: 0,a\n0,1\n", (), ["a"]),
        ("Unnamed: 0,a\n0,1\n", ("Unnamed: 0",), ["Unnamed: 0", "a"]),
        ("a,,b\n1,2,3\n", (), ["a", "Unnamed: 1", "b"]),
        ("a,,b\n1,,3\n", (), ["a", "b"]),
        ("a,a,a\n1,2,1\n", (), ["a", "a.1"]),
        ("a,a\n1,2\n", ("a", "a.1"), ["a", "a.1"]),
        ("0,1,2.5\n1,2,3\n", (), ["0", "1", "2.5"]),
        (" a ,b\n1,2\n", (" a ",), [" a ", "b"]),
    ],
)
def test_names_of_columns(tmp_path: Path, written: str, keep: tuple[str, ...], names: list[str]) -> None:
    """An index and empty columns are left out, and names are distinct, unless they are needed as they are."""
    assert list(read(tmp_path, written, keep=keep).columns) == names


def test_an_index_in_parquet_is_left_out(tmp_path: Path) -> None:
    """A DataFrame's index is no column of the data."""
    frame = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])

    assert list(read(tmp_path, as_parquet(frame), "t.parquet").columns) == ["a"]


@pytest.mark.parametrize(
    ("name", "written", "line"),
    [
        ("t.csv", "", "is empty: it has no line of names"),
        ("t.csv", 'a,b\n1,"x\n2,y\n', "line 3: a quote is opened and not closed"),
        ("t.csv", 'a,b\n1,"x"y\n', "line 2: text follows a closing quote"),
        ("t.csv", "a,b\n1,2\n1,2,3\n", "row 2 (line 3) has 3 cells, and the file has 2 names"),
        ("t.csv", b"a,b\n\xfc,1\n", "is not UTF-8 text"),
        ("t.csv", b"PK\3\4more", "is no text"),
        ("t.csv", b"a,b\n\0,1\n", "is no text"),
        ("t.xlsx", b"PK\3\4more", "the suffix is a spreadsheet's: save it as CSV"),
        ("t.csv", "a,a\n1,2\n", "two columns are named 'a', and their cells differ"),
        ("t.csv.gz", b"\x1f\x8b\x08", "cannot be read"),
        ("t.csv.gz", b"text", "cannot be read"),
        ("t.xz", b"text", "cannot be read"),
        ("t.zip", b"text", "cannot be read"),
        ("t.zip", zipped(b"a\n1\n", "a.csv", "b.csv"), "holds 2 files, and a table is one"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "row 2 is not JSON"),
        ("t.jsonl", "[1]\n", "row 1 is not a JSON object"),
        ("t.jsonl", "[" * 100_000, "row 1 is not JSON"),
        ("t.jsonl", '{"a": "\\ud800"}', "row 1 is not JSON"),
        ("t.parquet", b"PAR1", "is no Parquet file"),
    ],
)
def test_unreadable_files_are_one_line(tmp_path: Path, name: str, written: str | bytes, line: str) -> None:
    """What is wrong is said with the row or line where it is."""
    with pytest.raises(PlumblineError) as refused:
        read(tmp_path, written, name, keep=("a",))

    assert str(refused.value).startswith(f"{tmp_path / name}: {line}")
    assert "\n" not in str(refused.value)


def test_a_file_without_names_is_suspected(tmp_path: Path) -> None:
    """Where a column is lacking and all names are numbers, the line of names may be."""
    (tmp_path / "t.csv").write_text("5.1,3.5\n4.9,3.0\n")
    with pytest.raises(PlumblineError, match=r"lacks the column\(s\) 'y'; it has '5.1', '3.5'; all are numbers"):
        list(read_records(tmp_path / "t.csv", Dialect(), ["y"]))


def test_rows_one_by_one(tmp_path: Path) -> None:
    """A broken line of JSON is a row with a problem, and loses no other row."""
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n\nbroken\n{"a": [2]}\n')
    found = list(read_records(tmp_path / "t.jsonl", Dialect(), ["a"]))

    assert [(row.number, row.cells) for row in found] == [(1, {"a": 1}), (2, None), (3, {"a": "[2]"})]
    assert isinstance(found[1], Record)
    assert (found[1].problem or "").startswith("is not JSON")


FEATURES = (
    Feature("age", FeatureType.INTEGER),
    Feature("member", FeatureType.BOOLEAN),
    Feature("channel", FeatureType.CATEGORICAL, categories=("NA", "01", 'say "no",\n')),
    Feature("code", FeatureType.CATEGORICAL, categories=(1, 2)),
    Feature("value", FeatureType.NUMERIC, nullable=True),
)
SCHEMA = ModelSchema("m", "1", Task.BINARY, FEATURES, (False, True), True)


def stored(row: int) -> Json:
    """A row as an export renders it; every third has no outcome yet."""
    channel = FEATURES[2].categories[row % 3]
    features = {
        "age": 40 + row,
        "member": row % 2 == 0,
        "channel": channel,
        "code": 1 + row % 2,
        "value": row / 2 or None,
    }
    outcome = {"outcome": row % 2 == 1, "value": -1.5, "observed_at": "2026-01-02T00:00:00.000000Z", "revision": 1}
    return {
        "prediction_id": f"p{row}",
        "model_name": "m",
        "model_version": "1",
        "features": features,
        "context": {"region": "EU"} if row else None,
        "prediction": True,
        "probabilities": {"false": 0.25, "true": 0.75},
        "predicted_at": "2026-01-01T00:00:00.000001Z",
        "outcome": None if row % 3 == 2 else outcome,
    }


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_exports_are_read_again(tmp_path: Path, form: Any) -> None:
    """An export of any format gives back its features for a simulation, and its outcomes for the service."""
    rows = [stored(row) for row in range(7)]
    pages, file = renderer(form, SCHEMA), tmp_path / f"rows.{form}"
    file.write_bytes(pages(rows) + pages.end())

    samples, assumed = read_samples(file, FEATURES, SCHEMA.classes, "outcome", Dialect())
    lines = list(OutcomeReader(file, SCHEMA.classes).lines())

    assert json.dumps([sample.features for sample in samples]) == json.dumps([row["features"] for row in rows])
    assert [sample.outcome for sample in samples] == [(row["outcome"] or {}).get("outcome") for row in rows]
    assert "an export: its columns feature.NAME are read as NAME" in assumed
    names = set(read_table(file, Dialect(), keep=["predicted_at"]).columns)
    assert names & {"predicted_at", "observed_at", "prediction_id", "age"} == {"predicted_at", "age"}
    assert [line.item and line.item["outcome"] for line in lines] == [sample.outcome for sample in samples]
    assert [line.problem for line in lines] == [None] * len(rows)
