"""``plumbline migrate``."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from app.commands.serve import ConfigFile
from app.configfile import load_config


def migrate(config: ConfigFile = Path("config.yaml")) -> None:
    """Bring the store's schema up to date; ``serve`` does so at its start too."""
    settings = load_config(config, os.environ)
    from app.store.engine import check_reachable, open_database
    from app.store.migrate import upgrade

    database = open_database(settings.store.url.get_secret_value())
    try:
        check_reachable(database)
        before, after = upgrade(database.writer)
    finally:
        database.close()
    typer.echo(
        f"schema {after}: " + ("already up to date" if before == after else f"migrated from {before or 'nothing'}")
    )
