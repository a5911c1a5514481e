"""`plumbline export` against a real service."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from app.commands.tables.dialect import Dialect
from app.commands.tables.reader import read_table
from tests.support.load import batch
from tests.support.processes import Service, free_port, serving
from tests.support.programs import Done, run_command

ROWS = 2_300
"""More than two pages of an export."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, example_models: Path) -> Iterator[Service]:
    """A service with rows, of which ten have an outcome."""
    with serving(tmp_path_factory.mktemp("export"), models=example_models) as running:
        assert running.call("POST", "/predict", batch(example_models, "row", ROWS))[0] == 200
        outcomes = [{"prediction_id": f"row-{number}", "outcome": "benign"} for number in range(10)]
        assert running.call("POST", "/outcome", {"outcomes": outcomes})[0] == 200
        yield running


def run(port: int, out: Path, *options: str) -> Done:
    """One export."""
    return run_command("export", "--url", f"http://127.0.0.1:{port}", "--out", out, *options)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_every_row_is_in_the_file(service: Service, tmp_path: Path, form: str) -> None:
    """All rows, once each, whatever the number of pages; the command says how many."""
    out = tmp_path / "rows"
    done = run(service.port, out, "--format", form)
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file)) if form == "csv" else [json.loads(line) for line in file]

    assert done.returncode == 0, done.stderr
    assert f"{ROWS} rows in" in done.stderr
    assert {row["prediction_id"] for row in rows} == {f"row-{number}" for number in range(ROWS)}
    assert len(rows) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_the_name_of_the_file_says_the_format(service: Service, tmp_path: Path, name: str) -> None:
    """Without --format the file is what its name says, and the other commands read it."""
    out = tmp_path / name
    done = run(service.port, out)

    assert done.returncode == 0, done.stderr
    assert read_table(out, Dialect()).rows == ROWS


def test_parquet_has_types(service: Service, tmp_path: Path) -> None:
    """Every row, with numbers, times and classes in columns of their own type; what is missing is null."""
    out = tmp_path / "rows.parquet"
    done = run(service.port, out, "--format", "parquet")
    table = parquet.read_table(out)
    rows = {row["prediction_id"]: row for row in table.to_pylist()}

    assert done.returncode == 0, done.stderr
    assert f"{out.stat().st_size} bytes in" in done.stderr
    assert table.num_rows == len(rows) == ROWS
    assert isinstance(rows["row-5"]["feature.mean_radius"], float)
    assert rows["row-5"]["predicted_at"].tzinfo is not None
    assert (rows["row-5"]["outcome"], rows["row-50"]["outcome"]) == ("benign", None)
    assert sum(rows["row-5"][name] for name in table.column_names if name.startswith("probability.")) == pytest.approx(
        1
    )


def test_bounds_choose_the_rows(service: Service, tmp_path: Path) -> None:
    """The rows with an outcome of one version since a moment; none before it, and none of another version."""
    counts = []
    for options in (
        ("--labelled", "--model-version", "1", "--from", "2020-01-01T00:00:00Z"),
        ("--unlabelled",),
        ("--to", "2020-01-01T00:00:00Z"),
        ("--model-version", "none"),
    ):
        assert run(service.port, tmp_path / "rows", *options).returncode == 0
        counts.append(len((tmp_path / "rows").read_text(encoding="utf-8").splitlines()))

    assert counts == [10, ROWS - 10, 0, 0]


@pytest.mark.parametrize(("option", "says"), [(("--from", "yesterday"), "RFC 3339"), ((), "no answer|refused")])
def test_a_refused_export_leaves_the_file_alone(
    service: Service, tmp_path: Path, option: tuple[str, ...], says: str
) -> None:
    """A wrong bound, or a service that is not there: one line, exit code 1, and the file of before."""
    out = tmp_path / "rows"
    out.write_text("before")
    done = run(service.port if option else free_port(), out, *option)

    assert done.returncode == 1
    assert any(word in done.stderr for word in says.split("|"))
    assert len(done.stderr.splitlines()) == 1
    assert out.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


def test_a_folder_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    """The command ends at once, with no service there."""
    done = run(free_port(), tmp_path)

    assert done.returncode == 2
    assert "is a directory" in " ".join(done.stderr.replace("│", " ").split())
