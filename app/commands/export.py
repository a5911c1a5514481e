"""`plumbline export`: write stored predictions with their outcomes to a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, BinaryIO

import httpx
import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.commands.serve import DEFAULT_URL
from app.commands.service import Url, explain_failure, explain_refusal
from app.errors import PlumblineError


class ExportFormat(StrEnum):
    """JSON lines, or CSV or Parquet with one column a feature."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


def export(
    *,
    out: Annotated[Path, typer.Option(help="File to write; it appears, or is replaced, once it is whole.")],
    url: Url = DEFAULT_URL,
    form: Annotated[ExportFormat, typer.Option("--format", help="What to write.")] = ExportFormat.JSONL,
    start: Annotated[str | None, typer.Option("--from", help="From this time on; RFC 3339 with its zone.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Before this time; RFC 3339 with its zone.")] = None,
    model_version: Annotated[str | None, typer.Option(help="Only the rows of this version.")] = None,
    labelled: Annotated[
        bool | None, typer.Option("--labelled/--unlabelled", help="Only rows with an outcome, or only those without.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="Key with the scope read.")] = None,
) -> None:
    """Write stored predictions with their outcomes to a file, in order of time."""
    asked = {"format": form.value, "from": start, "to": end, "model_version": model_version, "labelled": labelled}
    params = {name: value for name, value in asked.items() if value is not None}
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    rows, binary = RowCount(quoted=form is ExportFormat.CSV), form is ExportFormat.PARQUET
    console = Console(stderr=True)
    try:
        with (
            whole_file(out) as file,
            httpx.Client(base_url=url, headers=headers, timeout=60.0) as client,
            client.stream("GET", "/predictions", params=params) as answer,
        ):
            _accept(answer, url)
            with _progress(console) as progress:
                task = progress.add_task("export", total=None, rows="")
                for part in answer.iter_bytes():
                    file.write(part)
                    progress.update(task, advance=len(part), rows="" if binary else f"{rows.add(part)} rows")
    except httpx.TransportError as error:
        raise PlumblineError(f"{explain_failure(error, url)}; {out} is as it was") from None
    console.print(f"{out.stat().st_size} bytes in {out}" if binary else f"{rows.rows} rows in {out}")


class RowCount:
    """Count rows in parts of a text.

    Rows are lines, without a CSV header and without line ends inside quotes.
    """

    def __init__(self, *, quoted: bool) -> None:
        self._quoted = quoted
        self._inside = False
        self._lines = 0

    @property
    def rows(self) -> int:
        """The rows so far."""
        return max(self._lines - 1, 0) if self._quoted else self._lines

    def add(self, part: bytes) -> int:
        r"""Take the next part; the rows so far.

        >>> RowCount(quoted=True).add(b'id,note\n1,"two\nlines"\n2,\n')
        2
        """
        pieces = part.split(b'"') if self._quoted else [part]
        self._lines += sum(piece.count(b"\n") for piece in pieces[self._inside :: 2])
        self._inside ^= len(pieces) % 2 == 0
        return self.rows


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only when the block ends well and its bytes are on the disk."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise PlumblineError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _accept(answer: httpx.Response, url: str) -> None:
    """Go on with a 200; PlumblineError says what else came, and what to do."""
    if answer.status_code != HTTPStatus.OK:
        answer.read()
        raise PlumblineError(explain_refusal(answer, url, "read"))
    if "x-request-id" not in answer.headers:  # which every answer of ours has
        raise PlumblineError(f"{url} answers no predictions: is this a Plumbline service?")


def _progress(console: Console) -> Progress:
    rows = TextColumn("{task.fields[rows]}")
    return Progress(SpinnerColumn(), rows, DownloadColumn(), TimeElapsedColumn(), console=console)
