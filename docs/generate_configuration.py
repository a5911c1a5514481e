"""Write ``docs/configuration.md`` from the settings themselves: ``python docs/generate_configuration.py``."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.config.fields import ChannelUrl, Duration, WholeSecret  # noqa: E402 - as above
from app.config.settings import Config, Rule  # noqa: E402 - as above

PAGE = ROOT / "docs" / "configuration.md"
HEAD = """\
# Configuration

`config.yaml` holds every key at its default. `PLUMBLINE__SECTION__KEY` in the environment beats the file, for example
`PLUMBLINE__DRIFT__WINDOW__ROWS=500`. `plumbline check` prints the effective configuration, secrets masked, and names
every error with its line; an unknown key is an error. A duration is a number and a unit: `500ms`, `10s`, `5m`, `1h`,
`30d`, `2w`. The file is plain YAML of at most 256 KiB: aliases (`*name`), a key written twice and more than 32 levels
are refused.

This page is generated from `app/config/settings.py` by `docs/generate_configuration.py`.
"""
NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "text",
    ChannelUrl: "URL",
    WholeSecret: "text",
    Duration: "duration",
    type(None): "null",
}
BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for name, field in Config.model_fields.items() for line in _section(name, field))])


def _section(name: str, field: FieldInfo) -> list[str]:
    model = field.annotation
    assert isinstance(model, type)  # noqa: S101 - every field of the configuration is a section
    assert issubclass(model, BaseModel)  # noqa: S101 - as above
    return [
        f"## {name}",
        "",
        str(model.__doc__),
        "",
        "| key | type | default | meaning |",
        "| --- | --- | --- | --- |",
        *_rows(model, name),
        "",
    ]


def _rows(model: type[BaseModel], path: str) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        key, kind = f"{path}.{field.alias or name}", field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += _rows(kind, key)
            continue
        bounds = [
            text.format(f"{value:,}".replace(",", " "))
            for constraint in field.metadata
            for bound, text in BOUNDS.items()
            if (value := getattr(constraint, bound, None)) is not None
        ]
        described = ", ".join([_kind(kind), *bounds])
        rows.append(f"| `{key}` | {described} | {_default(field.default)} | {field.description} |")
        inside = f"{key}[]" if get_origin(kind) is tuple else key
        rows += [row for item in get_args(kind) if _is_model(item) for row in _rows(item, inside)]
    return rows


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in arguments)
    if origin is tuple:
        return "list" if _is_model(arguments[0]) else f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"keys and {_kind(arguments[1])}"
    return "section" if _is_model(annotation) else NAMES[annotation]


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "needed"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = f"[{', '.join(item.name if isinstance(item, Rule) else item for item in value)}]"
    if value is None:
        value = "null"
    if value == "":
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
