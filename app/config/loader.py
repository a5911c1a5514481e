"""Read the configuration: a YAML file, overridden by ``PLUMBLINE__SECTION__KEY``.

All errors at once, with their lines.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from app.config.fields import Duration, WholeSecret
from app.config.settings import Config, Rule
from app.errors import MIN_SECRET_CHARACTERS, ConfigError, mask_secrets, secrets_in

PREFIX = "PLUMBLINE__"
_NAMED = re.compile(r"([a-z_]+(?:\.[a-z0-9_]+)*): ")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}|\[key\]")
"""A key that may be shown; another one may be a secret that was written in its place. The second is pydantic's."""
MAX_FILE_BYTES = 2**18
"""Largest configuration file."""
MAX_DEPTH = 32
"""How deep a YAML file may be nested."""
MAX_NUMBER_CHARACTERS = 400
"""Longest text that is read as a number or a time: to read digits takes the square of their number."""
MAX_FINDINGS = 100
"""Most findings that are listed."""
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
        raise ConfigError("\n".join(_findings(error, where, file))) from None


def _findings(error: ValidationError, where: Where, file: Path | None) -> list[str]:
    """One line for each wrong key, as many as are worth reading."""
    items = error.errors()
    # A list is too short only because its wrong items were left out.
    inner = {item["loc"][:end] for item in items for end in range(len(item["loc"]))}
    found: dict[str, list[str]] = {}
    left_out = 0
    for item in items:
        if item["loc"] in inner:
            continue
        if len(found) == MAX_FINDINGS:
            left_out += 1
            continue
        place, text = _explain(item["loc"], item["type"], item["msg"], where, file)
        found.setdefault(place, []).append(text)
    lines = [f"{place}: {', or '.join(texts)}" for place, texts in found.items()]
    return [*lines, f"and {left_out} more"] if left_out else lines


def effective(config: Config) -> dict[str, Any]:
    """The configuration as plain data in the form of the file, secrets masked."""
    return {name: _plain(getattr(config, name)) for name in Config.model_fields}


def no_key(host: str) -> str:
    """The refusal to serve other machines without a key."""
    return (
        f"server.host: {host} is reachable from other machines, and auth.keys is empty, like the store: "
        "add a key (plumbline keys new) or listen on 127.0.0.1"
    )


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


class PlainLoader(yaml.SafeLoader):
    """Reads plain YAML, without aliases, repeated keys or deep nesting.

    A few aliases of aliases grow to more than any memory holds; PyYAML lets the last one of repeated keys win.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, unless it is an alias or too deep."""
        if self.check_event(yaml.AliasEvent):
            raise self._refused("an alias (`*name`) is refused: write the value out")
        if self._depth == MAX_DEPTH:
            raise self._refused(f"it is nested more than {MAX_DEPTH} deep")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, unless it has a key twice."""
        names = Counter(str(key.value) for key, _ in node.value)
        built = super().construct_mapping(node, deep)
        if len(built) < names.total():
            line = next((key.start_mark for key, _ in node.value if names[str(key.value)] > 1), node.start_mark)
            raise yaml.composer.ComposerError(None, None, "a key is written twice", line)
        return built

    def _refused(self, reason: str) -> yaml.MarkedYAMLError:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        return yaml.composer.ComposerError(None, None, reason, event.start_mark)


def explain_yaml(error: Exception, data: bytes) -> tuple[int, str]:
    """The line at which bytes are no plain YAML, and the reason."""
    if isinstance(error, yaml.MarkedYAMLError):
        return error.problem_mark.line + 1 if error.problem_mark else 1, str(error.problem)
    if isinstance(error, UnicodeDecodeError):
        return data.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text"
    if isinstance(error, yaml.reader.ReaderError):
        before = data.decode("utf-8", "replace")[: error.position]
        return before.count("\n") + 1, "it holds a character that YAML forbids"
    return 1, "it holds a value that cannot be read"


def _read_file(file: Path) -> tuple[dict[str, Any], Where]:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{file}: is larger than {MAX_FILE_BYTES} bytes")
    try:
        node = yaml.compose(data.decode("utf-8"), Loader=PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line, reason = explain_yaml(error, data)
        raise ConfigError(f"{file}:{line}: is not plain YAML: {reason}") from None
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{file}:1: expected sections such as `server:`")
    where: Where = {}
    problems: list[str] = []
    built = _build(node, (), file, where, problems)
    if problems:
        more = [f"and {len(problems) - MAX_FINDINGS} more"] if len(problems) > MAX_FINDINGS else []
        raise ConfigError("\n".join([*problems[:MAX_FINDINGS], *more]))
    return dict(built), where


def _build(node: yaml.Node, path: tuple[str | int, ...], file: Path, where: Where, problems: list[str]) -> Any:
    """Give plain data of a YAML node, and note the line of each key."""
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
    if len(node.value) > MAX_NUMBER_CHARACTERS:
        return node.value
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
        path = tuple(part.lower() for part in variable.removeprefix(PREFIX).split("__", MAX_DEPTH))
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"{variable[:MAX_NUMBER_CHARACTERS]}: names no key")
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
        return yaml.load(text, Loader=PlainLoader) if len(text) <= MAX_FILE_BYTES else text  # noqa: S506 - a safe one
    except (yaml.YAMLError, ValueError):
        return text


def _explain(loc: tuple[str | int, ...], kind: str, message: str, where: Where, file: Path | None) -> tuple[str, str]:
    """Say where an error is (``config.yaml:12: server.port``) and what it is."""
    text = message.removeprefix("Value error, ")
    if kind == "value_error" and (named := _NAMED.match(text)):  # the finding of a whole section names its key
        keys = (int(key) if key.isdigit() else key for key in named[1].split("."))
        loc, text = (*loc, *keys), text[named.end() :]
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
