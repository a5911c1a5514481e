"""Commands on the store itself: plumbline keys and plumbline migrate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer
import yaml
from typer.core import TyperGroup

from app.commands.serve import ConfigFile, read_config
from app.config.fields import Duration
from app.config.settings import Config, Key
from app.errors import ConfigError, PlumblineError, RequestError, StoreLocked
from app.types import Json, Micros, to_rfc3339

if TYPE_CHECKING:
    from app.store.database import Connection
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Result = TypeVar("Result")
Scopes = Annotated[
    list[str] | None,
    typer.Option("--scope", help="What it may do: predict, outcome, read, metrics, admin. Repeatable."),
]
Url = Annotated[
    str | None, typer.Option(envvar="PLUMBLINE_URL", help="Where the service listens; by default as configured.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="PLUMBLINE_API_KEY", help="Key with the scope admin, where a service runs on the store."),
]
DEFAULT_SCOPES = ["predict", "outcome", "read"]
_REFUSED = "a name has 1 to 64 of A-Z a-z 0-9 . _ -, and the scopes are predict, outcome, read, metrics, admin"


class KeysGroup(TyperGroup):
    """``keys NAME`` stands for ``keys configured NAME``."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; a word that is none of them is a name."""
        known = args and (args[0] in self.commands or args[0].startswith("-"))
        return super().resolve_command(ctx, args if known else ["configured", *args])


def keys() -> typer.Typer:
    """The group of commands."""
    group = typer.Typer(cls=KeysGroup, help="Make, list and revoke API keys.", no_args_is_help=True)
    group.callback()(_group)
    group.command("configured")(configured)
    group.command("new")(new)
    group.command("list")(list_keys)
    group.command("revoke")(revoke)
    return group


def _group() -> None:
    """Make, list and revoke API keys."""


def configured(
    name: Annotated[str, typer.Argument(help="Name of the key in logs and audits.")], scope: Scopes = None
) -> None:
    """Make a key for config.yaml: it is shown once, and its hash goes into the configuration."""
    from app.store.queries.keys import new_key

    key, sha256 = new_key()
    entry = {"name": name, "sha256": sha256, "scopes": scope or DEFAULT_SCOPES}
    _check(entry)
    typer.echo(f"key (shown once): {key}\n\nadd to auth.keys in config.yaml:\n")
    typer.echo(yaml.safe_dump([entry], sort_keys=False), nl=False)


def new(
    name: Annotated[str, typer.Argument(help="Name of the key in logs and audits.")],
    scope: Scopes = None,
    model: Annotated[str | None, typer.Option(help="The only model that it may ask about.")] = None,
    expires: Annotated[str | None, typer.Option(help="How long it is valid, for example 90d.")] = None,
    config: ConfigFile = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Make a key in the store: it holds at once, and is shown once."""
    scopes = scope or DEFAULT_SCOPES
    _check({"name": name, "sha256": hashlib.sha256().hexdigest(), "scopes": scopes, "model": model})
    try:
        expires_s = None if expires is None else Duration.parse(expires)
    except ValueError as error:
        raise ConfigError(f"--expires: {error}") from None
    settings = read_config(config)
    if name in {key.name for key in settings.auth.keys}:
        raise ConfigError(f"a key named {name} is in auth.keys of the configuration")
    from app.store.queries.keys import add_key, new_key

    def add(connection: Connection) -> str:
        key, sha256 = new_key()
        add_key(connection, name, sha256, scopes, model=model, expires_s=expires_s, by=_BY)
        return key

    def ask() -> str:
        body = {"name": name, "scopes": scopes, "model": model, "expires": expires}
        return str(_call("POST", _address(settings, url), "/keys", api_key, body)["key"])

    typer.echo(f"key (shown once): {_act(settings, url, add, ask)}")


def list_keys(config: ConfigFile = None, url: Url = None, api_key: ApiKey = None) -> None:
    """List the keys: name, scopes, model, times and state; never a key or its hash."""
    settings = read_config(config)
    from app.store.queries.keys import read_keys

    def ask() -> list[Json]:
        items: list[Json] = _call("GET", _address(settings, url), "/keys?limit=1000", api_key)["items"]
        return items

    items = _act(settings, url, lambda connection: _items(settings, read_keys(connection)), ask)
    head = ("name", "scopes", "model", "created", "expires", "last used", "state")
    rows = [head, *map(_row, items)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def revoke(
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    config: ConfigFile = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """End a key of the store for good: within a second, wherever a service runs on it."""
    settings = read_config(config)
    if name in {key.name for key in settings.auth.keys}:
        raise ConfigError(f"the key {name} is in the configuration: take it out of auth.keys and restart")
    from app.store.queries.keys import revoke_key

    def end(connection: Connection) -> None:
        revoke_key(connection, name, by=_BY)

    _act(settings, url, end, lambda: _call("DELETE", _address(settings, url), f"/keys/{quote(name, safe='')}", api_key))
    typer.echo(f"{name} is revoked")


_BY = "command line"
"""Who acts on the store where no service runs."""


def _check(entry: Json) -> None:
    """See whether a name and its scopes are allowed."""
    try:
        Key.model_validate(entry)
    except ValueError:
        raise ConfigError(_REFUSED) from None


def _act(settings: Config, url: str | None, act: Callable[[Connection], Result], ask: Callable[[], Result]) -> Result:
    """Act on the store; ask the service where it holds the file, or is named."""
    if url is not None:
        return ask()
    from app.store.database import check_reachable, open_database
    from app.store.migrate import upgrade

    try:
        database = open_database(settings.store.url.get_secret_value())
    except StoreLocked:
        return ask()
    try:
        check_reachable(database)
        upgrade(database.writer)
        with database.writer.begin() as connection:
            return act(connection)
    except RequestError as error:
        raise PlumblineError(str(error)) from None
    finally:
        database.close()


def _address(settings: Config, url: str | None) -> str:
    host = settings.server.host
    here = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host  # noqa: S104 - an address to ask
    return url or f"http://{here}:{settings.server.port}"


def _call(method: str, address: str, path: str, api_key: str | None, body: Json | None = None) -> Any:
    """The answer of the service that runs."""
    from app.commands.service import ServiceClient

    return ServiceClient(address, api_key).call(method, path, "admin", json=body)


def _items(settings: Config, stored: Any) -> list[Json]:
    import time

    now = Micros(time.time_ns() // 1000)
    times = ("created_at", "expires_at", "last_used_at")
    items = [
        {"name": key.name, "scopes": key.scopes, "model": key.model, "state": key.state(now)}
        | {name: None if getattr(key, name) is None else to_rfc3339(getattr(key, name)) for name in times}
        for key in stored
    ]
    items += [
        {"name": key.name, "scopes": key.scopes, "model": key.model, "state": "active"} for key in settings.auth.keys
    ]
    return sorted(items, key=lambda item: str(item["name"]))


def _row(item: Json) -> tuple[str, ...]:
    times = [str(item.get(name) or "-")[:19] for name in ("created_at", "expires_at", "last_used_at")]
    return (str(item["name"]), ",".join(item["scopes"]), str(item["model"] or "-"), *times, str(item["state"]))


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
