"""Types of settings: sections, durations, and secrets filled from the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SecretStr,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
"""Seconds in each unit that a duration may be written in."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Duration(float):
    """Seconds, written with a unit: a duration without one is a guess.

    >>> Duration.parse("90d"), str(Duration(7776000)), Duration(2592000).iso()
    (Duration(7776000.0), '90d', 'P30D')
    """

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Read ``"10s"``, ``"500ms"``, ``"1h"`` or ``"30d"``; raise ValueError for anything else."""
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError("a duration is a number and a unit (ms, s, m, h, d, w), for example 10s or 30d")
        seconds = cls(float(match[1]) * UNITS[match[2]])
        if seconds <= 0:
            raise ValueError("must be longer than 0")
        return seconds

    def iso(self) -> str:
        """ISO 8601, in days where it is whole days, else in seconds."""
        days, rest = divmod(float(self), 86400)
        return f"PT{float(self):g}S" if rest else f"P{days:g}D"

    def __str__(self) -> str:
        unit = next((unit for unit in ("d", "h", "m", "s") if self >= UNITS[unit] and self % UNITS[unit] == 0), "ms")
        return f"{self / UNITS[unit]:g}{unit}"

    def __repr__(self) -> str:
        return f"Duration({float(self)})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)


class WholeSecret(SecretStr):
    """A secret of which nothing is ever shown."""

    @property
    def masked(self) -> str:
        """Give the text that is shown instead of the secret."""
        return "***"


class ChannelUrl(WholeSecret):
    """A URL that is a secret as a whole: of a channel, nothing but its scheme is ever shown."""

    @property
    def scheme(self) -> str:
        """Give the scheme: what stands before ``://``."""
        return self.get_secret_value().partition("://")[0]

    @property
    def masked(self) -> str:
        """The URL as it may be shown."""
        return f"{self.scheme}://***"


def _from_environment(value: object, info: ValidationInfo) -> object:
    """Replace ``${NAME}`` by variables of the environment.

    The environment is the context of validation.
    """
    environ = (info.context or {}).get("environ", {})

    def fill(found: re.Match[str]) -> str:
        if found[1] not in environ:
            raise ValueError(f"the variable {found[1]} is not set")
        return str(environ[found[1]])

    return _VARIABLE.sub(fill, value) if isinstance(value, str) else value


def _url(value: object) -> object:
    if isinstance(value, str) and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise ValueError("a channel is a URL with its scheme, for example json://HOST/PATH")
    return value


FilledSecret: TypeAlias = Annotated[WholeSecret, BeforeValidator(_from_environment)]
FilledUrl: TypeAlias = Annotated[ChannelUrl, BeforeValidator(_url), BeforeValidator(_from_environment)]
"""Secrets stay in the environment: ``https://HOST/PATH?token=${NAME}``."""


def _word(value: object) -> object:
    """YAML reads the word ``off`` as false."""
    return "off" if value is False else value


DigestEvery: TypeAlias = Annotated[Literal["off", "daily", "weekly"], BeforeValidator(_word)]


class Section(BaseModel):
    """A section refuses keys it does not know and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)


PrivacyMode: TypeAlias = Annotated[Literal["clear", "hash", "truncate", "off"], BeforeValidator(_word)]


class Privacy(Section):
    """The form in which sensitive values are stored."""

    subject: str | None = Field(
        None, min_length=1, description="Feature or key of the context by which `DELETE /predictions?subject=` erases."
    )
    features: dict[str, PrivacyMode] = Field(
        {},
        strict=False,
        description="Stored form by feature or key of the context: `clear`, `hash` (salted), `truncate` or `off`.",
    )

    @model_validator(mode="after")
    def _erasable(self) -> Privacy:
        if self.subject is not None and self.features.get(self.subject) in ("truncate", "off"):
            raise ValueError("subject: must be stored clear or hashed, or its rows could not be found again")
        return self


class Limits(Section):
    """The most that callers may use."""

    connections: int = Field(1000, ge=1, le=1_000_000, description="Most open connections.")
    connections_per_address: int = Field(
        200,
        ge=1,
        le=1_000_000,
        description="Most open connections from one address; loopback is exempt while this is the default.",
    )

    requests_per_second_per_key: float | None = Field(
        None, ge=0.01, le=1e6, strict=False, allow_inf_nan=False, description="Most requests of one key; null: any."
    )
    requests_per_second_per_address: float | None = Field(
        None, ge=0.01, le=1e6, strict=False, allow_inf_nan=False, description="Most requests of one address; null: any."
    )

    @property
    def loopback_connections(self) -> int | None:
        """Give the limit for loopback, where a proxy or a benchmark is one address for many callers.

        A file may list every key at its default, so only another value says that loopback is meant too.
        """
        default = type(self).model_fields["connections_per_address"].default
        return None if self.connections_per_address == default else self.connections_per_address


class Logging(Section):
    """The log on standard output, and in a file."""

    format: Literal["auto", "json", "console"] = Field(
        "auto", description="JSON lines, or lines for people; auto: for people on a terminal, else JSON."
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least level of a line.")
    access: Annotated[Literal["off", "errors", "all"], BeforeValidator(_word)] = Field(
        "errors", description="Requests with a line of their own; errors: those refused (4xx) or failed (5xx)."
    )
    predictions: Annotated[Literal["off", "ids", "all"], BeforeValidator(_word)] = Field(
        "off",
        description="A line for each stored prediction; all: with features, as they are stored, and answer. "
        "See [logs.md](operations/logs.md).",
    )
    file: Path | None = Field(
        None, strict=False, description="File that gets every line too, as JSON; it may be moved away at any time."
    )
