"""`plumbline outcomes` against a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.commands.outcomes import TRIES, Loader, OutcomeReader, Progress
from app.errors import PlumblineError
from app.types import Json
from tests.support.load import batch
from tests.support.processes import Service, free_port, serving
from tests.support.programs import Done, run_command
from tests.support.receivers import answering

ROWS = 2_500
"""More than two requests."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, example_models: Path) -> Iterator[Service]:
    """A service with predictions that wait for their outcomes."""
    with serving(tmp_path_factory.mktemp("outcomes"), models=example_models) as running:
        for run in ("csv", "jsonl", "parquet", "resumed", "wrong"):
            assert running.call("POST", "/predict", batch(example_models, run, ROWS))[0] == 200
        yield running


def load(port: int, file: Path, *options: str) -> Done:
    """One load."""
    return run_command("outcomes", file, "--url", f"http://127.0.0.1:{port}", *options)


def write(file: Path, run: str, rows: int = ROWS) -> None:
    """A file of outcomes of one run, in the form of its suffix."""
    ids = [f"{run}-{row}" for row in range(rows)]
    if file.suffix == ".csv":
        file.write_text("prediction_id,outcome,value\n" + "".join(f"{each},benign,1.5\n" for each in ids))
    elif file.suffix == ".jsonl":
        lines = [json.dumps({"prediction_id": each, "outcome": "benign", "value": 1.5}) for each in ids]
        file.write_text("\n".join(lines) + "\n")
    else:
        pq.write_table(pa.table({"prediction_id": ids, "outcome": ["benign"] * rows, "value": [1.5] * rows}), file)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_every_row_is_loaded(service: Service, tmp_path: Path, form: str) -> None:
    """All rows of each form are matched, once; nothing is left beside the file, and loading again does no harm."""
    file = tmp_path / f"truth.{form}"
    write(file, form)
    first, second = load(service.port, file), load(service.port, file)
    status, stored = service.call("GET", f"/predictions/{form}-{ROWS - 1}")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert f"{ROWS} matched" in first.stderr
    assert f"{ROWS} duplicate" in second.stderr
    assert (status, stored["outcome"]["outcome"], stored["outcome"]["value"]) == (200, "benign", 1.5)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_row_that_is_not_taken_is_listed(service: Service, tmp_path: Path) -> None:
    """Unknown ids and broken rows go to a file with row and reason, and lose no other row, known class or not."""
    file = tmp_path / "truth.csv"
    rows = [
        "wrong-0,benign,",
        "wrong-1,7,",
        "nobody,benign,",
        "wrong-2,benign,much",
        "wrong-3,,",
        "wrong-4,malignant,2",
    ]
    file.write_text("prediction_id,outcome,value\n" + "\n".join(rows) + "\n")
    done = load(service.port, file)
    listed = [json.loads(line) for line in (tmp_path / "truth.csv.errors.jsonl").read_text().splitlines()]

    assert done.returncode == 1
    assert "3 matched" in done.stderr
    assert "1 without an outcome" in done.stderr
    assert {(row["row"], row["status"]) for row in listed} == {(3, "unknown"), (4, "invalid")}
    assert all(row["detail"] for row in listed)


def note(file: Path, rows: int, size: int | None = None) -> None:
    """Note that so many rows of the file, as it is or was, are loaded."""
    about = file.stat()
    noted = {
        "of": [about.st_size if size is None else size, about.st_mtime_ns],
        "rows": rows,
        "counts": {"matched": rows},
    }
    file.with_name(f"{file.name}.progress").write_text(json.dumps(noted))


def test_an_interrupted_load_goes_on(service: Service, tmp_path: Path) -> None:
    """What was noted as loaded is not sent again; of a file that has changed, or with --restart, all is."""
    file = tmp_path / "truth.csv"
    write(file, "resumed")
    note(file, 2000)
    going_on = load(service.port, file)
    sent = [service.call("GET", f"/predictions/resumed-{row}")[1]["outcome"] is not None for row in (1999, 2000)]
    note(file, 2000)
    anew = load(service.port, file, "--restart")
    note(file, 2000, size=1)
    changed = load(service.port, file)

    assert "2000 rows are loaded already" in going_on.stderr
    assert sent == [False, True]
    assert "500 duplicate, 2000 matched" in anew.stderr
    assert f"{ROWS} duplicate" in changed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["truth.csv"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("absent.csv", None, "cannot be read"),
        ("truth.xlsx", "x", "suffix"),
        ("truth.csv", "id,label\n1,2\n", "lacks the column(s) 'prediction_id', 'outcome'; it has 'id', 'label'"),
        ("truth.parquet", "no parquet", "is no Parquet file"),
    ],
)
def test_a_file_that_is_none_is_refused(
    service: Service, tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    """One line says what is wrong, and the exit code is 1."""
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    done = load(service.port, file)

    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ([] if text is None else [name])


def load_patiently(url: str, folder: Path) -> tuple[str, list[float]]:
    """The line with which a load of three rows ends, and the pauses between its tries, which take no time here."""
    file, pauses = folder / "truth.csv", list[float]()
    write(file, "any", 3)
    with httpx.Client(base_url=url) as client:
        loader = Loader(client, Progress.of(file), folder / "errors", pauses.append)
        with pytest.raises(PlumblineError) as ended:
            loader.load(OutcomeReader(file).lines(), lambda _: None)
    return str(ended.value), pauses


@pytest.mark.parametrize("status", [429, 503, 504, None])
def test_a_service_that_is_busy_or_away_is_asked_again(tmp_path: Path, status: int | None) -> None:
    """After ever longer pauses the load ends with one line, and says that the same command goes on."""
    with answering(status) if status else nullcontext(f"http://127.0.0.1:{free_port()}") as url:
        line, pauses = load_patiently(url, tmp_path)

    assert line.startswith(f"the service takes no outcomes after {TRIES} tries; 0 rows are loaded")
    assert pauses == [2**attempt / 4 for attempt in range(TRIES)]


def test_a_service_that_refuses_is_asked_once(tmp_path: Path) -> None:
    """A refusal that time does not mend ends the load at once, with the status."""
    with answering(400) as url:
        line = f"{url} answers 400, and not as Plumbline does: is this a Plumbline service?"
        assert load_patiently(url, tmp_path) == (line, [])


def test_without_a_service_nothing_happens(tmp_path: Path) -> None:
    """No service: one line, exit code 1, and no file is left."""
    file = tmp_path / "truth.csv"
    write(file, "any", 3)
    done = load(free_port(), file)

    assert done.returncode == 1
    assert "no service answers" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["truth.csv"]


def test_the_export_can_be_loaded(tmp_path: Path) -> None:
    """A line of an export is read as its outcome; a row whose outcome is null is the truth of nobody yet."""
    file = tmp_path / "rows.jsonl"
    outcome = {"outcome": 0, "value": None, "observed_at": "2026-01-01T00:00:00Z", "revision": 1}
    file.write_text(
        json.dumps({"prediction_id": "a", "features": {}, "outcome": outcome})
        + "\n"
        + json.dumps({"prediction_id": "b", "outcome": None})
        + "\nbroken\n[1]\n"
    )
    rows = list(OutcomeReader(file).lines())

    assert rows[0].item == {"prediction_id": "a", "outcome": 0, "observed_at": "2026-01-01T00:00:00Z"}
    assert (rows[1].item, rows[1].problem) == (None, None)
    assert [bool(row.problem) for row in rows] == [False, False, True, True]
    assert rows[-1].done == file.stat().st_size


def test_cells_take_the_type_of_the_classes(tmp_path: Path) -> None:
    """The text of a CSV cell becomes the class that is written so; else a number; quoted line ends count as one row."""
    file = tmp_path / "rows.csv"
    file.write_text('prediction_id,outcome,note\na,1,"two\nlines"\nb,true,\nc,2.5,\nd,other,\n')
    rows = list(OutcomeReader(file, ["1", True]).lines())

    assert [row.item and row.item["outcome"] for row in rows] == ["1", True, 2.5, "other"]


def test_a_new_class_among_text_stays_text(tmp_path: Path) -> None:
    """Where all classes are text, a cell that looks like a number is a class that the model lacks, not a number."""
    file = tmp_path / "rows.csv"
    file.write_text("prediction_id,outcome\na,1\nb,07\nc,\n")
    rows = list(OutcomeReader(file, ["1", "2"]).lines())

    assert [row.item and row.item["outcome"] for row in rows] == ["1", "07", None]


def test_text_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    """Bytes of another encoding are an error, not a guess."""
    file = tmp_path / "rows.csv"
    file.write_bytes(b"prediction_id,outcome\na,\xff\n")
    with pytest.raises(PlumblineError, match="UTF-8"):
        list(OutcomeReader(file).lines())


def read(file: Path, text: str, *classes: str | bool | int, **given: Any) -> list[Json | str | None]:
    """The items of a file with this text, or why a row is none."""
    file.write_text(text, encoding="utf-8")
    return [line.problem or line.item for line in OutcomeReader(file, classes, **given).lines()]


def test_outcomes_in_another_dialect(tmp_path: Path) -> None:
    """Semicolons, a decimal comma and thousands, a mark, blanks around names, and a class that is called NA."""
    text = "\ufeffprediction_id; outcome ;value\na;NA;1.234,5\nb;None;-0,5\nc;nan;\n"

    assert read(tmp_path / "rows.csv", text, "NA", "None") == [
        {"prediction_id": "a", "outcome": "NA", "value": 1234.5},
        {"prediction_id": "b", "outcome": "None", "value": -0.5},
        None,
    ]


@pytest.mark.parametrize(("late", "read_as"), [("0,5", [1234, 0.5]), ("0.5", [1.234, 0.5])])
def test_one_decimal_mark_for_all_rows(tmp_path: Path, late: str, read_as: list[float]) -> None:
    """A mark that only a late row shows holds for the first rows too."""
    rows = "".join(f"p{row};1.234\n" for row in range(2_500))
    found = read(tmp_path / "rows.csv", f"prediction_id;outcome\n{rows}q;{late}\n")

    assert [item["outcome"] for item in (found[0], found[-1]) if isinstance(item, dict)] == read_as
    assert ("decimal comma" in OutcomeReader(tmp_path / "rows.csv").assumptions()) == ("," in late)


@pytest.mark.parametrize("classes", [(False, True), (0, 1)])
def test_flags_are_classes(tmp_path: Path, classes: tuple[bool | int, ...]) -> None:
    """True, true, 1 and 1.0 are the class true, and the class 1."""
    rows = "".join(f"p,{cell}\n" for cell in ("True", "true", "1", "1.0", "FALSE", "0"))
    found = read(tmp_path / "rows.csv", f"prediction_id,outcome\n{rows}", *classes)

    assert [item["outcome"] for item in found if isinstance(item, dict)] == [*classes[1:] * 4, *classes[:1] * 2]


def test_times_need_a_zone(tmp_path: Path) -> None:
    """A time without one is a row with a problem; with --time-zone and --day-first it is read."""
    cells = ("2026-01-05T09:00:00Z", "2026-01-05 10:00", "05.01.2026 10:00", "1767603600", "20260105", "")
    text = "prediction_id,outcome,observed_at\n" + "".join(f"p,x,{cell}\n" for cell in cells)
    plain = read(tmp_path / "a.csv", text, "x")
    zoned = read(tmp_path / "a.csv", text, "x", zone="Europe/Berlin", day_first=True)
    times = [[item.get("observed_at", "")[:16] for item in each if isinstance(item, dict)] for each in (plain, zoned)]
    problems = [item for item in plain if isinstance(item, str)]

    assert times == [["2026-01-05T09:00"] * 2 + [""], ["2026-01-05T09:00"] * 4 + [""]]
    assert "its times have no zone; say --time-zone" in problems[0]
    assert "say --day-first or --month-first" in problems[1]
    assert "look like dates without marks" in problems[2]


def test_what_a_row_lacks_is_told(tmp_path: Path) -> None:
    """A row without an id, a value that is no number and a strange flag are problems of that row alone."""
    text = "prediction_id,outcome,value,revise\n,x,,\np,x,much,\np,x,,maybe\np,x,1,True\n"

    assert read(tmp_path / "rows.csv", text, "x") == [
        "prediction_id: is missing",
        "value: expected a number",
        "revise: expected true or false",
        {"prediction_id": "p", "outcome": "x", "value": 1, "revise": True},
    ]
