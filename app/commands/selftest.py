"""`plumbline selftest`: inject drifts into the reference and see what is found."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.commands.serve import ConfigFile, read_config

if TYPE_CHECKING:
    from app.config.settings import Drift
    from app.monitoring.power import Findings, Setting

MAX_ROUNDS = 200
"""Enough for a power that is right to about three points; fewer where time is up before."""


def selftest(
    *,
    config: ConfigFile = None,
    model: Annotated[str | None, typer.Option(help="Model, `name` or `name/version`; default: the served one.")] = None,
    rows_per_hour: Annotated[
        float | None, typer.Option(min=0.001, help="Traffic to assume; default: as much as there can be looks.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="Longest time to take.")] = 40.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
) -> None:
    """Inject drifts into the model's own reference.

    The result is the delay, the power and the false alarms of this configuration.
    """
    import numpy as np

    from app.monitoring.power import rounds
    from app.monitoring.reference.reference import load_reference
    from app.serving.registry import read_configured

    settings = read_config(config)
    serving = settings.serving if model is None else settings.serving.model_copy(update={"active": model})
    console = Console()
    with console.status(f"loading {serving.active}"):
        bundle = read_configured(serving)
        reference = load_reference(bundle.folder, bundle.schema)
    setting = read_setting(settings.drift, rows_per_hour)
    *_, findings = _for(seconds, rounds(reference, setting, np.random.default_rng(seed)))
    console.print(drift_table(f"{bundle.schema.name} {bundle.schema.version}", findings, setting))
    for line in describe(findings, setting, reference.rows, in_sample=reference.in_sample):
        console.print(line)


def read_setting(drift: Drift, rows_per_hour: float | None) -> Setting:
    """Give the limits of a look at this traffic.

    By default a look is due every ``drift.every``.
    """
    from app.monitoring.false_alarm_budget import DRIFT_SHARE, Limits, alpha_per_look
    from app.monitoring.monitor import NEW_SHARE
    from app.monitoring.power import Setting

    new = max(1, round(drift.window.rows * NEW_SHARE))
    if rows_per_hour is not None:
        new = max(new, round(rows_per_hour * drift.every / 3600))
    elapsed = drift.every if rows_per_hour is None else max(drift.every, 3600 * new / rows_per_hour)
    alpha = alpha_per_look(elapsed, drift.false_alarm_every) * DRIFT_SHARE
    limits = Limits(alpha, drift.material_psi, drift.false_alarm_every.iso())
    return Setting(limits, drift.window.rows, min(new, drift.window.rows))


def drift_table(title: str, findings: Findings, setting: Setting) -> Table:
    """Describe what became of each drift."""
    table = Table(title=f"Self-test of {title}")
    for column in ("drift", "features", "streams", "found", "rows until found", "looks"):
        table.add_column(column, justify="left" if column == "drift" else "right")
    for name, record in findings.drifts.items():
        if not record.delays:
            table.add_row(name, "0", "-", "-", "-", "-")
            continue
        delay = record.delay
        rows, looks = ("-", "-") if delay is None else (f"{delay:g}", f"{delay / setting.new:g}")
        table.add_row(name, str(record.features), str(len(record.delays)), f"{record.power:.0%}", rows, looks)
    return table


def describe(findings: Findings, setting: Setting, reference_rows: int, *, in_sample: bool) -> Iterator[str]:
    """Lines on false alarms, and on what the figures rest on."""
    from app.statistics.intervals import Share

    low, high = Share(findings.exam_alarms, findings.looks).bounds(0.95)
    yield (
        f"false alarms: {findings.alarms} in {findings.looks} quiet looks (budget: {setting.limits.alpha:.1e} a look); "
        f"with a budget of 1 % a look: {findings.exam_alarms / findings.looks:.1%} ({low:.1%} to {high:.1%})"
    )
    yield f"a look: {setting.window} rows, {setting.new} of them new, against {reference_rows} in the reference"
    if in_sample:
        yield "the model was fitted on this reference: verdicts on its answers are withheld, those on features are not"


def _for(seconds: float, found: Iterator[Findings]) -> Iterator[Findings]:
    """Take rounds until time or :data:`MAX_ROUNDS` is up, at least one, and show how far it is."""
    started = time.monotonic()
    progress = Progress(
        TextColumn("injecting drifts"), BarColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )
    with progress:
        task = progress.add_task("", total=1.0)
        for done, findings in enumerate(itertools.islice(found, MAX_ROUNDS), start=1):
            yield findings
            spent = (time.monotonic() - started) / seconds
            progress.update(task, completed=max(spent, done / MAX_ROUNDS))
            if spent * (done + 1) / done > 1:
                return
