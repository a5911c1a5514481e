"""``plumbline check``."""

from __future__ import annotations

import os
from pathlib import Path

import typer
import yaml

from app.commands.serve import ConfigFile
from app.config.loader import effective, load_config


def check(config: ConfigFile = Path("config.yaml")) -> None:
    """Print the effective configuration with secrets masked, or every error with its line."""
    settings = load_config(config, os.environ)
    from app.alerting.channels.routes import open_channels
    from app.alerting.retraining import Retraining
    from app.alerting.rules.configured import rule_set
    from app.serving.registry import read_configured
    from app.store.database import parse_url

    parse_url(settings.store.url.get_secret_value())
    open_channels(settings.alerts.notify)
    bundle = read_configured(settings.serving)
    Retraining(settings.alerts.retrain, settings.server.address, settings.drift.retrain_share)
    rule_set(settings.alerts.rules, bundle.schema, settings.performance.segments)
    typer.echo(yaml.safe_dump(effective(settings), sort_keys=False, allow_unicode=True), nl=False)
    typer.echo(f"# {bundle.folder} is complete, untampered and loads", err=True)
