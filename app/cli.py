"""The command line: ``plumbline …``, the same as ``python -m app …``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated

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
    cli.callback()(_program)
    if not only_serve:
        _add_others(cli)
    return cli


def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=lambda asked: _show_version(asked=asked), is_eager=True)
    ] = False,
) -> None:
    """Serve a model, and know when it stops being true."""


def _show_version(*, asked: bool) -> None:
    """Print the version and end."""
    if asked:
        from app.metrics import package_version

        typer.echo(f"plumbline {package_version()}")
        raise typer.Exit


def _add_others(cli: typer.Typer) -> None:
    from app.commands.bundle import bundle
    from app.commands.configuration import check, init, selftest
    from app.commands.export import export
    from app.commands.outcomes import outcomes
    from app.commands.report import report
    from app.commands.service import ack, activate, alerts, predict, rollback, silence, status
    from app.commands.simulate import simulate
    from app.commands.store import keys, migrate

    commands: list[Callable[..., None]] = [init, bundle, check, simulate, predict, outcomes, export, report, selftest]
    commands += [status, ack, silence, activate, rollback, migrate]
    for command in commands:
        cli.command()(command)
    cli.add_typer(alerts(), name="alerts")
    cli.add_typer(keys(), name="keys")


def main() -> None:
    """Run one command; an expected failure is its lines on standard error and its exit code."""
    _write_any_text()
    try:
        build_cli(only_serve=sys.argv[1:2] in (["serve"], ["--version"]))()
    except PlumblineError as error:
        sys.stderr.write("".join(f"error: {mask_secrets(line)}\n" for line in str(error).splitlines()))
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort: Python itself would print texts with secrets and values
        sys.stderr.write(f"{_explain(error)}\n")
        sys.exit(1)


def _write_any_text() -> None:
    """Let output hold any text, whatever the locale.

    It is UTF-8 in a file or a pipe, which our own commands read; a terminal shows what it lacks as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _explain(error: Exception) -> str:
    """Describe an unexpected failure; of a connection that failed, in one line."""
    if type(error).__module__.partition(".")[0] == "httpx":
        from app.commands.service import explain_failure

        return f"error: {mask_secrets(explain_failure(error, 'the address'))}"
    return describe_traceback(error)
