"""``plumbline init``, ``check`` and ``selftest``: write a configuration, and check one."""

from __future__ import annotations

import itertools
import re
import shlex
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from app.commands.serve import CONFIG, ConfigFile, plumbline_command, read_config
from app.config.fields import Section
from app.config.loader import effective, no_key
from app.config.settings import Config
from app.errors import ConfigError

if TYPE_CHECKING:
    from app.config.settings import Drift
    from app.monitoring.power import Findings, Setting


def check(config: ConfigFile = None) -> None:
    """Print the effective configuration with secrets masked, or every error with its line."""
    settings = read_config(config)
    from app.alerting.channels.routes import open_channels
    from app.alerting.retraining import Retraining
    from app.alerting.rules.configured import rule_set
    from app.serving.bundle.verification import verify_bundle
    from app.serving.registry import find_configured, read_configured
    from app.store.database import parse_url

    parse_url(settings.store.url.get_secret_value())
    open_channels(settings.alerts.notify)
    verify_bundle(find_configured(settings.serving), settings.serving)
    bundle = read_configured(settings.serving)
    Retraining(settings.alerts.retrain, settings.server.address, settings.drift.retrain_share)
    rule_set(settings.alerts.rules, bundle.schema, settings.performance.segments)
    _require_key(settings)
    typer.echo(yaml.safe_dump(effective(settings), sort_keys=False, allow_unicode=True), nl=False)
    typer.echo(f"# {bundle.folder} is complete, untampered and loads", err=True)


def _require_key(settings: Config) -> None:
    """See whether a service that other machines can reach has a key.

    Raises:
        ConfigError: it has none.
    """
    if settings.server.is_local or settings.auth.keys:
        return
    from app.store.database import open_readers, parse_url
    from app.store.queries.keys import has_keys

    url = settings.store.url.get_secret_value()
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").is_file():
        readers = open_readers(url)
        try:
            if has_keys(readers):
                return
        finally:
            readers.dispose()
    raise ConfigError(no_key(settings.server.host))


HEAD = """\
# The configuration of Plumbline. Every key is at its default: leave out what you do not change.
# PLUMBLINE__SECTION__KEY in the environment beats this file; `plumbline check` explains every error with its line.
"""


def init(
    folder: Annotated[Path, typer.Argument(help="Folder for config.yaml; it is made where it is missing.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace a config.yaml that is there.")] = False,
) -> None:
    """Write a config.yaml with every key, its default and its meaning, and say what to do next."""
    file = folder / CONFIG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(commented_config())
    except FileExistsError:
        raise ConfigError(f"{file}: is there already; --force replaces it") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from None
    where = "" if folder == Path() else f"cd {shlex.quote(str(folder))}; "
    command = plumbline_command()
    typer.echo(f"{file} is written. Next:")
    typer.echo(f"  {where}{command} bundle MODEL --data train.csv --holdout test.csv --target COLUMN --name NAME")
    typer.echo(f"  PLUMBLINE__SERVING__ACTIVE=NAME {command} serve")


def commented_config() -> str:
    """Every key at its default, with its meaning above it."""
    config = Config()
    shown = effective(config)
    lines = [HEAD.rstrip()]
    for name, field in Config.model_fields.items():
        section = getattr(config, name)
        lines += ["", f"# {type(section).__doc__}", f"{field.alias or name}:"]
        lines += _commented(section, shown[name], "  ")
    return "\n".join([*lines, ""])


def _commented(section: Section, shown: Mapping[str, Any], indent: str) -> list[str]:
    """The keys of a section, each below its meaning."""
    lines = []
    for name, field in type(section).model_fields.items():
        key = field.alias or name
        value = getattr(section, name)
        if isinstance(value, Section):
            lines += [f"{indent}{key}:  # {type(value).__doc__}", *_commented(value, shown[key], f"{indent}  ")]
            continue
        text = _LINK.sub(r"docs/\1", field.description or "")
        written = yaml.safe_dump(shown[key], default_flow_style=True, allow_unicode=True, width=MAX_YAML_WIDTH)
        lines += [f"{indent}# {line}" for line in textwrap.wrap(text, MAX_COMMENT_CHARACTERS)]
        lines.append(f"{indent}{key}: {written.removesuffix('...' + chr(10)).strip()}")
    return lines


MAX_COMMENT_CHARACTERS = 100
_LINK = re.compile(r"\[[^\]]*\]\(([^)]*)\)")
MAX_YAML_WIDTH = 10_000


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
    from app.monitoring.check_request import DRIFT_SHARE, Limits, alpha_per_look
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
