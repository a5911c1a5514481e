"""The command line: ``plumbline …``, the same as ``python -m app …``."""

from __future__ import annotations

import sys

import typer

from app.errors import PlumblineError, describe_traceback, mask_secrets


def build_cli(*, only_serve: bool = False) -> typer.Typer:
    """The commands, put together.

    Args:
        only_serve: leave out the others, whose libraries a service would hold in memory and never use.
    """
    cli = typer.Typer(
        name="plumbline",
        help="Serve a model, and know when it stops being true.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    from app.commands.serve import serve

    cli.command()(serve)
    if only_serve:
        cli.callback()(_one_of_many)
    else:
        _add_others(cli)
    return cli


def _one_of_many() -> None:
    """Keep Typer from taking a single command for the whole program."""


def _add_others(cli: typer.Typer) -> None:
    from app.commands.alerts import alerts
    from app.commands.bundle import bundle
    from app.commands.check import check
    from app.commands.export import export
    from app.commands.keys import keys
    from app.commands.migrate import migrate
    from app.commands.outcomes import outcomes
    from app.commands.report import report
    from app.commands.selftest import selftest
    from app.commands.simulate import simulate

    for command in (bundle, check, simulate, export, outcomes, report, selftest, migrate):
        cli.command()(command)
    cli.add_typer(alerts(), name="alerts")
    cli.add_typer(keys(), name="keys")


def main() -> None:
    """Run one command; an expected failure is its lines on standard error and its exit code."""
    try:
        build_cli(only_serve=sys.argv[1:2] == ["serve"])()
    except PlumblineError as error:
        sys.stderr.write("".join(f"error: {mask_secrets(line)}\n" for line in str(error).splitlines()))
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort: Python itself would print texts with secrets and values
        sys.stderr.write(f"{describe_traceback(error)}\n")
        sys.exit(1)
