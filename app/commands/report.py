"""`plumbline report`: drift and data quality of one table against another, without a service."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.commands.bundle import read_table
from app.commands.export import whole_file
from app.types import Json, Micros, to_rfc3339


def report(
    *,
    reference: Annotated[Path, typer.Argument(help="CSV or Parquet file of what is normal.")],
    current: Annotated[Path, typer.Argument(help="CSV or Parquet file to compare with it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write: .html for a page, .json for the figures.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column that is judged like a model's answer.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Column to leave out; may be given again.")] = None,
    alpha: Annotated[
        float, typer.Option(min=1e-9, max=0.2, help="Probability of a false alarm, over all columns.")
    ] = 0.01,
    fail_on_drift: Annotated[bool, typer.Option("--fail-on-drift", help="Exit with 1 when there is drift.")] = False,
) -> None:
    """Compare two tables: which columns have drifted, and what is broken in the second one."""
    if output is not None and output.suffix not in (".html", ".json"):
        raise typer.BadParameter(f"{output}: ends in neither .html nor .json", param_hint="--output")
    from app.commands.tables import compare_tables

    moment = Micros(time.time_ns() // 1000)
    with Console(stderr=True).status(f"comparing {current} with {reference}"):
        tables = read_table(reference), read_table(current)
        body = compare_tables(*tables, target=target, exclude=exclude or (), alpha=alpha, now=moment)
    found = {
        "report_id": None,
        "kind": "drift",
        "model_name": f"{current.name} against {reference.name}",
        "model_version": "",
        "checked_at": to_rfc3339(moment),
        **body,
    }
    if output is not None:
        _write(output, found)
    typer.echo(verdict(found))
    if fail_on_drift and found["status"] == "drift":
        raise typer.Exit(1)


def verdict(found: Json) -> str:
    """One line on a drift report.

    >>> quality = {"findings": [{}]}
    >>> verdict(
    ...     {"status": "drift", "drifted_features": ["age"], "features": {"age": {}, "x": {}}, "data_quality": quality}
    ... )
    'drift: age (1 of 2 columns); 1 finding on data quality'
    """
    drifted, findings = found["drifted_features"], len(found["data_quality"]["findings"])
    named = f": {', '.join(drifted)} ({len(drifted)} of {len(found['features'])} columns)" if drifted else ""
    reason = f": {found['message']}" if found.get("message") else ""
    quality = f"; {findings} finding{'' if findings == 1 else 's'} on data quality" if findings else ""
    return f"{found['status']}{named}{reason}{quality}"


def _write(output: Path, found: Json) -> None:
    if output.suffix == ".json":
        text = json.dumps(found, indent=1, allow_nan=False)
    else:
        from app.dashboard.report_page import render_report

        text = render_report(found)
    with whole_file(output) as file:
        file.write(text.encode())
