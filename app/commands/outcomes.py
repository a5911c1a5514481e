"""`plumbline outcomes`: load the truth about many predictions from a file into a running service."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from app.commands.loading import Loader, Progress, refusals
from app.commands.outcome_files import read_outcomes, size_of
from app.errors import PlumblineError
from app.types import Label, label_key


def outcomes(
    file: Annotated[
        Path, typer.Argument(help="CSV, JSON lines or Parquet: prediction_id, outcome, value, observed_at.")
    ],
    *,
    url: Annotated[str, typer.Option(help="Where the service listens.")] = "http://127.0.0.1:8000",
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, also after an interrupted load.")] = False,
    api_key: Annotated[
        str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="Key with the scopes outcome and read.")
    ] = None,
) -> None:
    """Load outcomes from a file. Interrupted, the same command goes on where it stopped; sending twice does no harm."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    console = Console(stderr=True)
    progress = Progress(file) if restart else Progress.of(file)
    wrong = file.with_name(f"{file.name}.errors.jsonl")
    with httpx.Client(base_url=url, headers=headers, timeout=60.0) as client:
        labels = _labels(client)
        size = _size(file)
        if progress.rows:
            console.print(f"{progress.rows} rows are loaded already; going on")
        with (
            closing(read_outcomes(file, labels)) as lines,
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


def _labels(client: httpx.Client) -> dict[str, Label]:
    """The classes of all loaded versions by their text; none in regression."""
    try:
        answer = client.get("/models")
    except httpx.TransportError as error:
        raise PlumblineError(f"no service answers at {client.base_url}: {str(error) or 'no answer'}") from None
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise PlumblineError(f"{client.base_url} wants an API key with the scopes outcome and read: pass --api-key")
    if answer.status_code != HTTPStatus.OK:
        raise PlumblineError(
            f"{client.base_url} answers {answer.status_code} to GET /models: is this a Plumbline service?"
        )
    versions = (version for model in answer.json()["items"] for version in model["versions"])
    labels = [label for version in versions for label in version.get("classes") or ()]
    return {label_key(label): label for label in labels}


def _size(file: Path) -> int:
    try:
        return size_of(file)
    except OSError as error:
        raise PlumblineError(f"{file}: cannot be read: {error.strerror}") from None


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
    )
