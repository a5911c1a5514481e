"""``plumbline check``."""

from __future__ import annotations

import os
from pathlib import Path

import typer
import yaml

from app.commands.serve import ConfigFile
from app.configfile import effective, load_config


def check(config: ConfigFile = Path("config.yaml")) -> None:
    """Print the effective configuration with secrets masked, or every error with its line."""
    settings = load_config(config, os.environ)
    from app.serving.bundle import read_bundle
    from app.serving.registry import find_configured
    from app.store.engine import parse_url

    parse_url(settings.store.url.get_secret_value())
    folder = find_configured(settings.serving)
    read_bundle(folder, allow_pickle=settings.serving.allow_pickle, trusted_types=settings.serving.trusted_types)
    typer.echo(yaml.safe_dump(effective(settings), sort_keys=False, allow_unicode=True), nl=False)
    typer.echo(f"# {folder} is complete, untampered and loads", err=True)
