"""The command line: ``plumbline …``, the same as ``python -m app …``."""

from __future__ import annotations

import sys

import typer

from app.commands.alerts import alerts
from app.commands.bundle import bundle
from app.commands.check import check
from app.commands.export import export
from app.commands.keys import keys
from app.commands.migrate import migrate
from app.commands.outcomes import outcomes
from app.commands.report import report
from app.commands.selftest import selftest
from app.commands.serve import serve
from app.commands.simulate import simulate
from app.errors import PlumblineError


def build_cli() -> typer.Typer:
    """The commands, put together."""
    cli = typer.Typer(
        name="plumbline",
        help="Serve a model, and know when it stops being true.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for command in (serve, bundle, check, simulate, export, outcomes, report, selftest, migrate, keys):
        cli.command()(command)
    cli.add_typer(alerts(), name="alerts")
    return cli


def main() -> None:
    """Run one command; an expected failure is its lines on standard error and its exit code."""
    try:
        build_cli()()
    except PlumblineError as error:
        sys.stderr.write("".join(f"error: {line}\n" for line in str(error).splitlines()))
        sys.exit(error.exit_code)
