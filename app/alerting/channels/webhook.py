"""Webhooks: a body from a template, posted to a URL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from app.alerting.channels.base import ChannelFailed
from app.config.settings import Retrain
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


NAME = "retrain"
"""Of the channel in the outbox, and of the event."""
ALREADY_THERE = 409
"""The status of a pipeline that has got the request before, where its answer was lost."""


class Webhook:
    """POSTs a stored request as JSON; redirects are not followed, since headers are secret."""

    name = NAME

    def __init__(self, settings: Retrain) -> None:
        self._settings = settings

    def send(self, body: Json, *, timeout_s: float) -> None:
        """Post ``request``, under ``key`` as its idempotency key; the answer's body is not read."""
        import httpx

        headers = {name: value.get_secret_value() for name, value in self._settings.headers.items()}
        url = self._settings.url.get_secret_value()
        try:
            with httpx.stream(
                "POST",
                url,
                json=body["request"],
                headers={"Idempotency-Key": body["key"], **headers},
                timeout=timeout_s,
            ) as answer:
                asked = answer.headers.get("retry-after", "")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise ChannelFailed(f"not reached: {type(error).__name__}") from None
        if not (answer.is_success or answer.status_code == ALREADY_THERE):
            seconds = float(asked) if asked.isascii() and asked.isdigit() else None
            raise ChannelFailed(f"answered {answer.status_code}", seconds)
