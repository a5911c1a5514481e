"""``plumbline keys``."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

import typer
import yaml

from app.config.settings import Key
from app.errors import ConfigError

PREFIX = "plumb_"
"""Lets a leaked key be recognised for what it is."""


def keys(
    name: Annotated[str, typer.Argument(help="Name of the key in logs and audits.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do: predict, outcome, read, metrics, admin. Repeatable.")
    ] = None,
) -> None:
    """Make an API key: it is shown once, and its hash goes into the configuration."""
    key = PREFIX + secrets.token_urlsafe(32)
    entry = {
        "name": name,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "scopes": scope or ["predict", "outcome", "read"],
    }
    try:
        Key.model_validate(entry)
    except ValueError:
        raise ConfigError(
            "a name has 1 to 64 of A-Z a-z 0-9 . _ -, and the scopes are predict, outcome, read, metrics, admin"
        ) from None
    typer.echo(f"key (shown once): {key}\n\nadd to auth.keys in config.yaml:\n")
    typer.echo(yaml.safe_dump([entry], sort_keys=False), nl=False)
