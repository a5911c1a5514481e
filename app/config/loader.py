"""Read the configuration: a YAML file, overridden by ``PLUMBLINE__SECTION__KEY``.

All errors at once, with their lines.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from app.config.fields import Duration, WholeSecret
from app.config.settings import Config, Rule
from app.errors import MIN_SECRET_CHARACTERS, ConfigError, mask_secrets, secrets_in

PREFIX = "PLUMBLINE__"
_NAMED = re.compile(r"([a-z_]+(?:\.[a-z_]+)*): ")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}|\[key\]")
"""A key that may be shown; another one may be a secret that was written in its place. The second is pydantic's."""
Where = dict[tuple[str | int, ...], str]
"""Path of a key -> where it was written: ``config.yaml:12`` or the name of a variable."""


def load_config(file: Path | None, environ: Mapping[str, str]) -> Config:
    """The effective configuration.

    Args:
        file: the YAML file; None takes the defaults.
        environ: the environment; ``PLUMBLINE__DRIFT__EVERY=30s`` beats the file's ``drift: {every: …}``.

    Raises:
        ConfigError: one line for each finding, all at once.
    """
    data, where = _read_file(file) if file else ({}, {})
    _override(data, where, environ)
    try:
        return Config.model_validate(data, context={"environ": environ})
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        items = error.errors()
        for item in items:
            if any(item["loc"] == other["loc"][: len(item["loc"])] for other in items if other["loc"] != item["loc"]):
                continue  # a list is too short only because its wrong items were left out
            place, text = _explain(item["loc"], item["type"], item["msg"], where, file)
            found.setdefault(place, []).append(text)
        raise ConfigError("\n".join(f"{place}: {', or '.join(texts)}" for place, texts in found.items())) from None


def effective(config: Config) -> dict[str, Any]:
    """The configuration as plain data in the form of the file, secrets masked."""
    return {name: _plain(getattr(config, name)) for name in Config.model_fields}


def known_secrets(config: Config) -> frozenset[str]:
    """Everything in the configuration that may be secret, to be masked in the log."""
    found = secrets_in(config.store.url.get_secret_value())
    for channel in config.alerts.notify:
        found |= secrets_in(channel.url.get_secret_value())
    if config.alerts.retrain is not None:
        found |= secrets_in(config.alerts.retrain.url.get_secret_value())
        headers = [header.get_secret_value() for header in config.alerts.retrain.headers.values()]
        found |= {word for header in headers for word in header.split() if len(word) >= MIN_SECRET_CHARACTERS}
    return frozenset(found)


def _plain(value: Any) -> Any:
    match value:
        case BaseModel():
            return _plain_section(value)
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case SecretStr():
            return value.masked if isinstance(value, WholeSecret) else mask_secrets(value.get_secret_value())
        case tuple():
            return [_plain(item) for item in value]
        case Path() | Duration():
            return str(value)
    return value


def _plain_section(section: BaseModel) -> Any:
    """A section's keys as the file spells them; of a rule, what it says."""
    if isinstance(section, Rule) and section.model_fields_set == {"name"}:
        return section.name
    names = section.model_fields_set if isinstance(section, Rule) else set(type(section).model_fields)
    fields = type(section).model_fields
    return {field.alias or name: _plain(getattr(section, name)) for name, field in fields.items() if name in names}


def _read_file(file: Path) -> tuple[dict[str, Any], Where]:
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: is not YAML: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{file}: is not YAML: it holds a character that YAML forbids") from None
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{file}:1: expected sections such as `server:`")
    where: Where = {}
    problems: list[str] = []
    try:
        data = _build(node, (), file, where, problems)
    except RecursionError:
        raise ConfigError(f"{file}: an alias refers to what it stands in") from None
    if problems:
        raise ConfigError("\n".join(problems))
    return dict(data), where


def _build(node: yaml.Node, path: tuple[str | int, ...], file: Path, where: Where, problems: list[str]) -> Any:
    """Give plain data of a YAML node, and note the line of each key.

    A repeated key is refused; PyYAML itself lets the last one win.
    """
    where[path] = f"{file}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = f"{file}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(f"{place}: a key is one word")
                continue
            key = str(key_node.value)
            if key in built:
                problems.append(f"{place}: {_dotted((*path, key))}: is written twice")
            built[key] = _build(value_node, (*path, key), file, where, problems)
            where[*path, key] = place
        return built
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, index), file, where, problems) for index, item in enumerate(node.value)]
    try:
        return _scalar(node)
    except yaml.constructor.ConstructorError as error:
        problems.append(f"{where[path]}: {_dotted(path)}: {error.problem}")
    return None


def _scalar(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_object(node, deep=True)
    except ValueError:
        value = node.value
    finally:
        loader.dispose()
    return value


def _override(data: dict[str, Any], where: Where, environ: Mapping[str, str]) -> None:
    """Merge the environment's variables in.

    An error inside a section that a variable touches is put down to the closest key.
    """
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        path = tuple(part.lower() for part in variable.removeprefix(PREFIX).split("__"))
        target = data
        for part in path[:-1]:
            if not isinstance(target.get(part), dict):
                target[part] = {}
            target = target[part]
        target[path[-1]] = _from_text(environ[variable])
        for end in range(1, len(path) + 1):
            where[path[:end]] = variable


def _from_text(text: str) -> Any:
    """A variable's value, read as YAML so that lists and numbers work; what is no YAML is text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _explain(loc: tuple[str | int, ...], kind: str, message: str, where: Where, file: Path | None) -> tuple[str, str]:
    """Say where an error is (``config.yaml:12: server.port``) and what it is."""
    text = message.removeprefix("Value error, ")
    if kind == "value_error" and (named := _NAMED.match(text)):  # the finding of a whole section names its key
        loc, text = (*loc, *named[1].split(".")), text[named.end() :]
    if kind == "extra_forbidden":
        nearest = difflib.get_close_matches(str(loc[-1]), list(_siblings(loc)), n=1)
        text = "unknown key" + (f"; did you mean {nearest[0]}?" if nearest else "")
    place = next(
        (where[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in where), str(file or "configuration")
    )
    key = _dotted([part for part in loc if not str(part).startswith(("literal", "function-"))])
    return (f"{place}: {key}" if key else place), text


def _dotted(path: Sequence[str | int]) -> str:
    """The path of a key as it is shown."""
    return ".".join(str(part) if isinstance(part, int) or _NAME.fullmatch(part) else "***" for part in path)


def _siblings(loc: tuple[str | int, ...]) -> Iterator[str]:
    model: Any = Config
    for part in (name for name in loc[:-1] if isinstance(name, str)):  # the items of a list are all alike
        field = model.model_fields.get(part) if model else None
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    if model:
        yield from (field.alias or name for name, field in model.model_fields.items())
