"""``plumbline init`` and ``plumbline check``: write a configuration, and check one."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from app.commands.serve import CONFIG, ConfigFile, plumbline_command, read_config
from app.config.fields import Section
from app.config.loader import effective, no_key
from app.config.settings import Config
from app.errors import ConfigError


def check(config: ConfigFile = None) -> None:
    """Print the effective configuration with secrets masked, or every error with its line."""
    settings = read_config(config)
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


HEAD = """\
# The configuration of Plumbline. Every key is at its default: leave out what you do not change.
# PLUMBLINE__SECTION__KEY in the environment beats this file; `plumbline check` explains every error with its line.
"""


def init(
    folder: Annotated[Path, typer.Argument(help="Folder for config.yaml; it is made where it is missing.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace a config.yaml that is there.")] = False,
) -> None:
    """Write a config.yaml with every key, its default and its meaning, and say what to do next."""
    file = folder / CONFIG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(commented_config())
    except FileExistsError:
        raise ConfigError(f"{file}: is there already; --force replaces it") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from None
    where = "" if folder == Path() else f"cd {shlex.quote(str(folder))}; "
    command = plumbline_command()
    typer.echo(f"{file} is written. Next:")
    typer.echo(f"  {where}{command} bundle MODEL --data train.csv --holdout test.csv --target COLUMN --name NAME")
    typer.echo(f"  PLUMBLINE__SERVING__ACTIVE=NAME {command} serve")


def commented_config() -> str:
    """Every key at its default, with its meaning above it."""
    config = Config()
    shown = effective(config)
    lines = [HEAD.rstrip()]
    for name, field in Config.model_fields.items():
        section = getattr(config, name)
        lines += ["", f"# {type(section).__doc__}", f"{field.alias or name}:"]
        lines += _commented(section, shown[name], "  ")
    return "\n".join([*lines, ""])


def _commented(section: Section, shown: Mapping[str, Any], indent: str) -> list[str]:
    """The keys of a section, each below its meaning."""
    lines = []
    for name, field in type(section).model_fields.items():
        key = field.alias or name
        value = getattr(section, name)
        if isinstance(value, Section):
            lines += [f"{indent}{key}:  # {type(value).__doc__}", *_commented(value, shown[key], f"{indent}  ")]
            continue
        text = _LINK.sub(r"docs/\1", field.description or "")
        written = yaml.safe_dump(shown[key], default_flow_style=True, allow_unicode=True, width=MAX_YAML_WIDTH)
        lines += [f"{indent}# {line}" for line in textwrap.wrap(text, MAX_COMMENT_CHARACTERS)]
        lines.append(f"{indent}{key}: {written.removesuffix('...' + chr(10)).strip()}")
    return lines


MAX_COMMENT_CHARACTERS = 100
_LINK = re.compile(r"\[[^\]]*\]\(([^)]*)\)")
MAX_YAML_WIDTH = 10_000
