"""plumbline simulate: stream realistic traffic at a running service."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.commands.serve import DEFAULT_URL
from app.commands.service import Url, performance_verdict
from app.commands.simulation.drift import (
    DriftKind,
    Extra,
    Sample,
    drifting,
    endless,
    plan_drift,
    read_feature,
    read_samples,
)
from app.commands.simulation.traffic import Pace, Tally, Traffic, call
from app.commands.tables.dialect import Decimal, Delimiter, Dialect, Missing
from app.errors import PlumblineError
from app.reports.drift import DriftReport
from app.reports.performance import PerformanceReport
from app.reports.service import NoReport
from app.types import Feature, Label

MAX_CHECK_S, CHECK_PAUSE_S = 60.0, 0.2
"""How long a check that was asked for is waited for, and how often it is looked for."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The bodies of `/drift` and `/performance`; None where the service did not give them."""

    drift: DriftReport | NoReport | None
    performance: PerformanceReport | NoReport | None


def render(tally: Tally, verdicts: Verdicts) -> Table:
    """The summary: rows, outcomes, latency, and the monitor's verdicts."""
    table = Table(show_header=False, title="Simulation")
    for name, text in {**describe_traffic(tally), **describe_verdicts(verdicts)}.items():
        table.add_row(name, text)
    return table


def describe_traffic(tally: Tally) -> dict[str, str]:
    """Lines on what was sent."""
    return {
        "rows sent": str(tally.sent),
        "rows stored": str(tally.stored),
        "rows refused": _counts(tally.refused) or "0",
        "outcomes": _counts(tally.outcomes) or "none",
        "latency of a request": f"p50 {tally.latency(0.5):.1f} ms, p99 {tally.latency(0.99):.1f} ms",
    }


def describe_verdicts(verdicts: Verdicts) -> dict[str, str]:
    """Lines on what the monitor says.

    >>> describe_verdicts(Verdicts({"status": "drift", "drifted_features": ["age"]}, None))
    {'drift': 'drift: age', 'performance': 'not available'}
    """
    return {"drift": _drift(verdicts.drift), "performance": _performance(verdicts.performance)}


def _drift(report: DriftReport | NoReport | None) -> str:
    if report is None:
        return "not available"
    names = ", ".join(report["drifted_features"]) if "drifted_features" in report else ""
    return f"{report['status']}: {names}" if names else str(report["status"])


def _performance(report: PerformanceReport | NoReport | None) -> str:
    if report is None:
        return "not available"
    status, metrics = performance_verdict(report)
    name = next((name for name in ("accuracy", "rmse") if name in metrics), None)
    value = metrics[name]["value"] if name else None
    if name is None or value is None:
        return status
    baseline = metrics[name].get("baseline")
    against = f" against {baseline:.3f} at the reference" if baseline is not None else ""
    return f"{status}: {name} {value:.3f}{against}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)


@dataclass(frozen=True, slots=True)
class Target:
    """The model that the service answers with."""

    name: str
    version: str
    features: tuple[Feature, ...]
    classes: tuple[Label, ...]


def simulate(
    *,
    url: Url = DEFAULT_URL,
    rows: Annotated[
        int, typer.Option(min=1, help="Rows to send; when the data run out, fresh rows of the same law follow.")
    ] = 2000,
    rate: Annotated[float, typer.Option(min=0, help="Rows a second; 0: as fast as answers come.")] = 0.0,
    batch: Annotated[int, typer.Option(min=1, help="Rows a request.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 8,
    data: Annotated[Path | None, typer.Option(help="Table of rows; default: the model's own live.csv.")] = None,
    target: Annotated[str, typer.Option(help="Column that holds the truth.")] = "outcome",
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    na: Missing = None,
    context: Annotated[
        list[str] | None, typer.Option(help="Column of the data that is sent as context; may be given more than once.")
    ] = None,
    value: Annotated[str | None, typer.Option(help="Column of the data that is sent as an outcome's value.")] = None,
    label_delay: Annotated[float, typer.Option(min=0, help="Seconds from an answer to its outcome.")] = 0.0,
    label_share: Annotated[float, typer.Option(min=0, max=1, help="Share of the rows that get an outcome.")] = 1.0,
    drift: Annotated[DriftKind, typer.Option(help="What changes from --from-row on.")] = DriftKind.NONE,
    feature: Annotated[
        list[str] | None, typer.Option(help="Feature that drifts; may be given more than once. Default: the first.")
    ] = None,
    amount: Annotated[
        float | None,
        typer.Option(help="shift: standard deviations (1); scale: factor (2); others: share of the rows (0.3)."),
    ] = None,
    from_row: Annotated[int | None, typer.Option(min=0, help="First row that drifts; default: half of --rows.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    api_key: Annotated[str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="Key of the service.")] = None,
    models: Annotated[Path, typer.Option(help="Folder of bundles, where the model's live.csv lies.")] = Path("models"),
) -> None:
    """Stream real rows with delayed outcomes, and a chosen drift, at a running service."""
    change = Change(drift, tuple(feature or ()), amount, rows // 2 if from_row is None else from_row)
    columns = Extra(tuple(context or ()), value)
    source = Source(data, models, target, Dialect.of(delimiter, decimal, na), columns)
    run = Run(rows, Pace(rate, batch, concurrency, label_delay), label_share, seed)
    asyncio.run(_simulate(url, api_key, source, change, run))


@dataclass(frozen=True, slots=True)
class Change:
    """Say what drifts, in which features, how much and from which row on."""

    kind: DriftKind
    features: tuple[str, ...]
    amount: float | None
    from_row: int


@dataclass(frozen=True, slots=True)
class Source:
    """Say where the rows are and which columns matter.

    Without a file they are the model's own, in the folder of bundles.
    """

    data: Path | None
    models: Path
    target: str
    dialect: Dialect
    extra: Extra


@dataclass(frozen=True, slots=True)
class Run:
    """Say how many rows are sent, how fast, which share of them gets a label, and by which seed."""

    rows: int
    pace: Pace
    label_share: float
    seed: int


async def _simulate(url: str, api_key: str | None, source: Source, change: Change, run: Run) -> None:
    console = Console()
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60.0) as client:
        model = await _active_model(client)
        file = source.data or source.models / model.name / model.version / "live.csv"
        samples = _read(file, model, source)
        drifts = [
            plan_drift(
                change.kind,
                samples,
                model.features,
                model.classes,
                from_row=change.from_row,
                amount=change.amount,
                name=name,
            )
            for name in change.features or (None,)
        ]
        rng, label_rng = np.random.default_rng(run.seed).spawn(2)
        labelled = partial(_is_labelled, label_rng, run.label_share)
        traffic = Traffic(client, run.pace, f"sim-{uuid.uuid4().hex}", labelled)
        if run.rows > len(samples):
            console.print(f"{file} has {len(samples)} rows: fresh rows of the same law are sent after them")
        stream = drifting(endless(samples, model.features, model.classes, rng), drifts, run.rows, rng)
        with _progress(console) as progress:
            task = progress.add_task(f"{model.name} {model.version}", total=run.rows)
            await traffic.send(stream, lambda done: progress.advance(task, done))
        console.print(render(traffic.tally, await _verdicts(client)))


def _is_labelled(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def _read(file: Path, model: Target, source: Source) -> list[Sample]:
    """Read the rows to send, and say what was assumed."""
    if source.data is None and not file.exists():
        raise PlumblineError(f"{file} is not there: name a file with --data")
    samples, assumed = read_samples(file, model.features, model.classes, source.target, source.dialect, source.extra)
    if assumed:
        typer.echo(assumed, err=True)
    return samples


async def _active_model(client: httpx.AsyncClient) -> Target:
    """The active version, as the service describes it."""
    status, answer = await call(client, "GET", "/models")
    if status == 0:
        raise PlumblineError(
            f"no service answers at {client.base_url}: start one with `plumbline serve`, or name it with --url"
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise PlumblineError(
            f"{client.base_url} wants an API key with the scopes predict, outcome and read: pass --api-key"
        )
    if status != HTTPStatus.OK or not isinstance(answer, dict):
        raise PlumblineError(f"{client.base_url} answers {status} to GET /models: is this a Plumbline service?")
    for model in answer["items"]:
        for version in model["versions"]:
            if version["role"] == "active":
                features = tuple(read_feature(entry) for entry in version["features"])
                return Target(model["name"], version["version"], features, tuple(version.get("classes") or ()))
    raise PlumblineError(f"{client.base_url} has no active model")


async def _verdicts(client: httpx.AsyncClient) -> Verdicts:
    """The monitor's reports, after a check of what was just sent where the key may ask for one.

    A check that does not end within the service's deadline is waited for: an earlier report is of other rows.
    """
    _, asked = await call(client, "POST", "/checks")
    made = asked if isinstance(asked, dict) else {}
    ids = {each["kind"]: each["report_id"] for part in ("reports", "pending") for each in made.get(part, [])}
    drift, performance = [await _report(client, kind, ids.get(kind)) for kind in ("drift", "performance")]
    return Verdicts(drift, performance)


async def _report(client: httpx.AsyncClient, kind: str, report_id: str | None) -> Any:
    """The report with this id, once it is there; without one, the latest."""
    ends = time.monotonic() + MAX_CHECK_S
    while report_id is not None and time.monotonic() < ends:
        status, body = await call(client, "GET", f"/reports/{report_id}")
        if status != HTTPStatus.NOT_FOUND:
            return _body((status, body))
        await asyncio.sleep(CHECK_PAUSE_S)
    return _body(await call(client, "GET", f"/{kind}"))


def _body(answer: tuple[int, Any]) -> Any:
    return answer[1] if answer[0] == HTTPStatus.OK else None


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
