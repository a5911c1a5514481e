"""plumbline outcomes: load outcomes from a file in bulk."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Annotated

import httpx
import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from app.commands.serve import DEFAULT_URL
from app.commands.service import Url, explain_failure, explain_refusal
from app.commands.tables.columns import Labels, cell_text
from app.commands.tables.dialect import (
    MISSING_WORDS,
    DayFirst,
    Decimal,
    Delimiter,
    Dialect,
    Missing,
    NumberParser,
    TimeZone,
    find_decimal,
    shown_decimal,
)
from app.commands.tables.reader import Record, assumptions, read_records, size_of
from app.errors import BundleError, PlumblineError
from app.serving.bundle.times import times_of
from app.types import Json, Label, Micros, to_rfc3339

ROWS_A_REQUEST = 1_000
TRIES = 8
_TAKEN = frozenset({"matched", "duplicate", "revised", "pending"})
_NO_OUTCOME = "without an outcome"
_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


FIELDS = ("prediction_id", "outcome", "value", "observed_at", "revise")
"""Columns that are sent; others, such as those of an export, are left out."""
_ZONED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")
"""Times as the service takes them."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the file.

    Attributes:
        number: counted from 1, without a header.
        done: how far the file is read, see :class:`app.commands.tables.reader.Record`.
        item: the outcome to send, or None for a row without one.
        problem: why the row cannot be sent, or None.
    """

    number: int
    done: int
    item: Json | None
    problem: str | None = None


@dataclass(frozen=True)
class OutcomeReader:
    """Reads the rows of a file as ``POST /outcome`` takes them.

    Attributes:
        classes: of all versions; empty in regression.
        zone, day_first: how times without a zone, and dates such as 01/02/2026, are meant.
    """

    file: Path
    classes: Sequence[Label] = ()
    dialect: Dialect = field(default_factory=Dialect)
    zone: str | None = None
    day_first: bool | None = None

    def lines(self) -> Generator[Line]:
        """Give every row; one whose outcome is empty is the truth of nobody yet: its item is None.

        Raises:
            PlumblineError: the file cannot be read, is of another kind, or lacks a column.
        """
        records = read_records(self.file, self.dialect, FIELDS[:2])
        labels, number = Labels(self.classes), NumberParser(self._decimal)
        while part := list(islice(records, ROWS_A_REQUEST)):
            times = self._times([cell_text((record.cells or {}).get("observed_at")).strip() for record in part])
            for record, time_of in zip(part, times, strict=True):
                yield self._line(record, labels, number, time_of)

    def assumptions(self) -> str:
        """One line on what is assumed of the file; empty where nothing is."""
        assumed = assumptions(self.file, self.dialect)
        if self._decimal == ".":
            return assumed
        return f"{assumed}; decimal comma" if assumed else f"{self.file}: decimal comma"

    @cached_property
    def _decimal(self) -> str:
        """The decimal mark; the first part of the file that shows it decides for all rows."""
        if self.dialect.decimal:
            return self.dialect.decimal
        columns: dict[str, list[str]] = {name: [] for name in (("value",) if self.classes else ("value", "outcome"))}
        records = read_records(self.file, self.dialect, FIELDS[:2])
        while part := list(islice(records, ROWS_A_REQUEST)):
            for name, cells in columns.items():
                cells += [cell_text((record.cells or {}).get(name)) for record in part]
            if mark := shown_decimal(self.file, columns)[0]:
                return mark
            columns = {name: [cell for cell in cells if "," in cell][:1] for name, cells in columns.items()}
        return find_decimal(self.file, columns)

    def _times(self, cells: Sequence[str]) -> list[str | ValueError]:
        """The times as the service takes them; an error in place of a wrong one."""
        others = {cell for cell in cells if not self._missing(cell) and not _ZONED.fullmatch(cell)}
        found: dict[str, str | ValueError] = {cell: cell for cell in cells}
        try:
            found |= self._read_times(sorted(others))
        except BundleError:
            for cell in others:
                try:
                    found |= self._read_times([cell])
                except BundleError as error:
                    found[cell] = ValueError(str(error).replace("column 'observed_at': row 1", "observed_at:"))
        return [found[cell] for cell in cells]

    def _read_times(self, cells: Sequence[str]) -> dict[str, str]:
        moments = times_of(cells, zone=self.zone, day_first=self.day_first) if cells else []
        return {cell: to_rfc3339(Micros(moment)) for cell, moment in zip(cells, moments, strict=True)}

    def _missing(self, cell: str) -> bool:
        return not cell or cell in self.dialect.missing or cell.lower() in MISSING_WORDS

    def _line(self, record: Record, labels: Labels, number: NumberParser, time_of: str | ValueError) -> Line:
        if record.cells is None:
            return Line(record.number, record.done, None, record.problem)
        try:
            cells = {name: cell_text(record.cells.get(name)) for name in FIELDS}
            return Line(record.number, record.done, self._item(cells, labels, number, time_of))
        except ValueError as error:
            return Line(record.number, record.done, None, str(error))

    def _item(
        self, cells: Mapping[str, str], labels: Labels, number: NumberParser, time_of: str | ValueError
    ) -> Json | None:
        text = cells["outcome"]
        label = labels(text)
        if label is None and self._missing(text.strip()):
            return None
        if label is None:
            words = self.classes and all(isinstance(known, str) for known in self.classes)
            parsed = None if words else number(text.strip())
            label = text if parsed is None else parsed
        if not (name := cells["prediction_id"].strip()):
            raise ValueError("prediction_id: is missing")
        item: Json = {"prediction_id": name, "outcome": label}
        if not self._missing(value := cells["value"].strip()):
            item["value"] = number(value)
            if item["value"] is None:
                raise ValueError("value: expected a number")
        if not self._missing(cells["observed_at"].strip()):
            if isinstance(time_of, ValueError):
                raise time_of
            item["observed_at"] = time_of
        if not self._missing(revise := cells["revise"].strip()):
            item["revise"] = Labels((False, True))(revise)
            if item["revise"] is None:
                raise ValueError("revise: expected true or false")
        return item


@dataclass(slots=True)
class Progress:
    """Keep how far a file has been loaded, in a small file beside it.

    It is removed when the load is done.

    It counts for the file as it was: after a change of its size or its time the load begins anew.
    """

    file: Path
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, file: Path) -> Progress:
        """Read it where it is there and speaks of this file."""
        try:
            found = json.loads(cls(file).path.read_bytes())
            if found["of"] == _identity(file):
                return cls(file, found["rows"], Counter(found["counts"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return cls(file)

    @property
    def path(self) -> Path:
        """Give the path of the progress file."""
        return self.file.with_name(f"{self.file.name}.progress")

    def save(self) -> None:
        """Write it, whole or not at all."""
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_bytes(orjson.dumps({"of": _identity(self.file), "rows": self.rows, "counts": self.counts}))
        part.replace(self.path)

    def forget(self) -> None:
        """Remove it: the load is done."""
        self.path.unlink(missing_ok=True)


class Loader:
    """Load the rows of one file.

    ``refused`` lists those that the service does not take.
    """

    def __init__(self, client: httpx.Client, progress: Progress, refused: Path, wait: Callable[[float], None]) -> None:
        self._client = client
        self._progress = progress
        self._refused = refused
        self._wait = wait

    def load(self, lines: Iterable[Line], advance: Callable[[int], None]) -> None:
        """Send every row that was not sent before; ``advance`` hears how far the file is read.

        Raises:
            PlumblineError: the service refuses, or does not answer; what was sent before is noted.
        """
        if not self._progress.rows:
            self._refused.unlink(missing_ok=True)
        for part in _chunks(line for line in lines if line.number > self._progress.rows):
            refused = self._send(part)
            if refused:
                with self._refused.open("ab") as file:
                    file.writelines(orjson.dumps(row) + b"\n" for row in refused)
            self._progress.rows = part[-1].number
            self._progress.save()
            advance(part[-1].done)

    def _send(self, part: Sequence[Line]) -> list[Json]:
        """Send the rows that can be sent; those that were not taken, with the reason."""
        counts = self._progress.counts
        refused = [_refusal(line, "invalid", line.problem) for line in part if line.problem is not None]
        sent = [line for line in part if line.item is not None]
        counts["invalid"] += len(refused)
        counts[_NO_OUTCOME] += len(part) - len(refused) - len(sent)
        if not sent:
            return refused
        answer = self._post(orjson.dumps({"outcomes": [line.item for line in sent]}))
        counts.update(answer["counts"])
        answered = zip(sent, answer["results"], strict=True)
        wrong = [(line, result) for line, result in answered if result["status"] not in _TAKEN]
        return refused + [_refusal(line, result["status"], result["detail"]) for line, result in wrong]

    def _post(self, body: bytes) -> Json:
        """Send one request, again while the service is full or away.

        A row that is sent twice does no harm.
        """
        for attempt in range(TRIES):
            try:
                answer = self._client.post("/outcome", content=body, headers={"content-type": "application/json"})
                if answer.status_code == HTTPStatus.OK:
                    found: Json = orjson.loads(answer.content)
                    return found
                if answer.status_code not in _LATER:
                    raise PlumblineError(explain_refusal(answer, str(self._client.base_url), "outcome"))
                pause = float(answer.headers.get("retry-after") or 2**attempt / 4)
            except httpx.TransportError:
                pause = 2**attempt / 4
            self._wait(pause)
        raise PlumblineError(
            f"the service takes no outcomes after {TRIES} tries; {self._progress.rows} rows are loaded, "
            "and the same command goes on from there"
        )


def refusals(counts: Counter[str]) -> int:
    """Count the rows that were not taken."""
    return sum(count for status, count in counts.items() if status not in _TAKEN | {_NO_OUTCOME})


def _refusal(line: Line, status: str, detail: str | None) -> Json:
    return {"row": line.number, "status": status, "detail": detail, "outcome": line.item}


def _identity(file: Path) -> list[int]:
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while part := list(islice(lines, ROWS_A_REQUEST)):
        yield part


def outcomes(
    file: Annotated[
        Path, typer.Argument(help="CSV, TSV, JSON lines or Parquet: prediction_id, outcome, value, observed_at.")
    ],
    *,
    url: Url = DEFAULT_URL,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    na: Missing = None,
    time_zone: TimeZone = None,
    day_first: DayFirst = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, also after an interrupted load.")] = False,
    api_key: Annotated[
        str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="Key with the scopes outcome and read.")
    ] = None,
) -> None:
    """Load outcomes from a file.

    Interrupted, the same command goes on where it stopped; sending twice does no harm.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    console = Console(stderr=True)
    progress = Progress(file) if restart else Progress.of(file)
    wrong = file.with_name(f"{file.name}.errors.jsonl")
    with httpx.Client(base_url=url, headers=headers, timeout=60.0) as client:
        reader = OutcomeReader(file, _classes(client), Dialect.of(delimiter, decimal, na), time_zone, day_first)
        size = size_of(file)
        if assumed := reader.assumptions():
            console.print(assumed, markup=False, soft_wrap=True)
        if progress.rows:
            console.print(f"{progress.rows} rows are loaded already; going on")
        with (
            closing(reader.lines()) as lines,
            _bar(console) as bar,
        ):
            task = bar.add_task(file.name, total=size)
            Loader(client, progress, wrong, time.sleep).load(lines, lambda done: bar.update(task, completed=done))
    progress.forget()
    _report(console, progress.counts, wrong)


def _report(console: Console, counts: Counter[str], wrong: Path) -> None:
    console.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if count) or "no rows")
    if refusals(counts):
        console.print(f"{refusals(counts)} rows were not taken: {wrong}")
        raise typer.Exit(1)


def _classes(client: httpx.Client) -> list[Label]:
    """The classes of all loaded versions; none in regression."""
    try:
        answer = client.get("/models")
    except httpx.TransportError as error:
        raise PlumblineError(explain_failure(error, str(client.base_url))) from None
    if answer.status_code != HTTPStatus.OK:
        raise PlumblineError(explain_refusal(answer, str(client.base_url), "outcome and read"))
    try:
        versions = [version for model in answer.json()["items"] for version in model["versions"]]
    except (ValueError, KeyError, TypeError):
        raise PlumblineError(f"{client.base_url} answers no models: is this a Plumbline service?") from None
    return [label for version in versions for label in version.get("classes") or ()]


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
    )
