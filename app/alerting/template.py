"""The body of a request, from a template of its JSON: whatever is put in is text or data, never syntax."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from app.types import Json


class BadTemplate(ValueError):
    """The template cannot be filled, or what comes out is no JSON object."""


def fill(template: str, values: Mapping[str, Any]) -> Json:
    """Fill a Jinja template of a JSON object, in a sandbox.

    Text goes between quotes, all else stands by itself; ``tojson`` brings its own quotes.

    >>> fill('{"why": "{{ why }}", "all": {{ all }}}', {"why": 'it says "no"', "all": ["a"]})
    {'why': 'it says "no"', 'all': ['a']}

    Raises:
        BadTemplate: it cannot be filled.
    """
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_as_json)
    try:
        found = json.loads(environment.from_string(template).render(values), parse_constant=_refuse)
    except TemplateError as error:
        raise BadTemplate(f"line {getattr(error, 'lineno', None) or '?'}: {error.message}") from None
    except (ArithmeticError, LookupError, TypeError) as error:
        raise BadTemplate(f"{type(error).__name__}: {error}") from None
    except ValueError as error:
        raise BadTemplate(f"does not give JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadTemplate("gives JSON that is no object")
    return found


def _as_json(value: object) -> object:
    if isinstance(value, (Markup, Undefined)):  # which says its name when it is written
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text[1:-1] if isinstance(value, str) else text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
