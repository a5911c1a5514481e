"""``plumbline migrate``: the schema, or the whole store, into its next state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.commands.serve import ConfigFile, read_config
from app.errors import ConfigError, PlumblineError


def migrate(
    config: ConfigFile = None,
    to: Annotated[
        str | None,
        typer.Option(envvar="PLUMBLINE_MIGRATE_TO", help="PostgreSQL to copy the SQLite store to; serving may go on."),
    ] = None,
) -> None:
    """Bring the store's schema up to date, as ``serve`` does at its start.

    With --to, copy the store to PostgreSQL.
    """
    url = read_config(config).store.url.get_secret_value()
    if to is None:
        _upgrade(url)
    else:
        _copy(url, to)


def _upgrade(url: str) -> None:
    from app.store.database import check_reachable, open_database
    from app.store.migrate import upgrade

    database = open_database(url)
    try:
        check_reachable(database)
        before, after = upgrade(database.writer)
    finally:
        database.close()
    typer.echo(
        f"schema {after}: " + ("already up to date" if before == after else f"migrated from {before or 'nothing'}")
    )


def _copy(url: str, to: str) -> None:
    """Copy, then say how many rows each table has on both sides, and what to do next."""
    from app.store.database import check_reachable, open_database, open_readers, parse_url
    from app.store.migrate import check_source, copy, count, upgrade

    here, there = parse_url(url), parse_url(to)
    if here.get_backend_name() != "sqlite" or there.get_backend_name() != "postgresql":
        raise ConfigError("migrate --to: copies from sqlite (store.url) to postgresql (--to), and no other way")
    if not Path(here.database or "").is_file():
        raise ConfigError(f"store.url: {here.database} does not exist")
    source, target = open_readers(url), open_database(to, setting="--to")
    try:
        check_reachable(target, setting="--to")
        _, revision = upgrade(target.writer)
        check_source(source, revision)
        with _progress() as progress:
            task = progress.add_task("copying", total=sum(count(source).values()))
            tables = copy(source, target.writer, lambda rows: progress.advance(task, rows))
    finally:
        source.dispose()
        target.close()
    for table in tables:
        typer.echo(f"{table.table:<12} {table.source:>12} here {table.target:>12} there")
    if not all(table.complete for table in tables):
        raise PlumblineError("rows have come while copying: stop the service, and run the same command again")
    typer.echo("complete. Stop the service, run this once more for its last rows, and start it with the new store.url.")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
