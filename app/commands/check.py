"""``plumbline check``."""

from __future__ import annotations

import os
from pathlib import Path

import typer
import yaml

from app.commands.serve import ConfigFile
from app.config.loader import effective, load_config, no_key
from app.config.settings import Config
from app.errors import ConfigError


def check(config: ConfigFile = Path("config.yaml")) -> None:
    """Print the effective configuration with secrets masked, or every error with its line."""
    settings = load_config(config, os.environ)
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
