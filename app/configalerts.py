"""The settings of alerts: the rules, who is told, and what is asked for a new model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from app.configtypes import ChannelUrl, Duration, FilledSecret, FilledUrl, Section
from app.types import Severity

_HEADER = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"


class Rule(Section):
    """The default rules, one of them, or a rule of one's own over a figure of the reports."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
        description="`default` for all default rules, one of them by its name, or the name of a rule of your own.",
    )
    metric: str | None = Field(None, description="Figure that a rule of your own watches, for example `drift.share`.")
    comparison: Literal["greater", "less", "absent"] = Field("greater", description="When the rule holds.")
    warning: float | None = Field(
        None, strict=False, allow_inf_nan=False, description="Limit of an alert of severity medium."
    )
    critical: float | None = Field(
        None, strict=False, allow_inf_nan=False, description="Limit of an alert of severity critical."
    )
    checks: int | None = Field(
        None, alias="for", ge=1, le=1000, description="Checks in a row in which the rule must hold before it fires."
    )
    hysteresis: float = Field(
        0.0, ge=0, strict=False, allow_inf_nan=False, description="How far past its limit a firing alert must return."
    )
    segment: str | None = Field(
        None,
        pattern=r"^[^=]+=.+$",
        description="`channel=web`: over these rows alone; for `performance.realised.…`.",
    )
    severity: Severity | None = Field(None, description="Severity of a default rule, or where the figure is absent.")
    enabled: bool = Field(True, description="`false` switches a default rule off.")

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, data: Any) -> Any:
        """A name alone stands for the rule of this name."""
        return {"name": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        limits = [limit for limit in (self.warning, self.critical) if limit is not None]
        if self.metric is None:
            if limits or self.hysteresis or self.segment or self.comparison != "greater":
                raise ValueError("metric: a rule of your own needs one; a default rule takes for, severity and enabled")
            if self.name == "default" and self.model_fields_set != {"name"}:
                raise ValueError("name: default takes all rules as they are; change one by its own name")
            return self
        if not self.enabled:
            raise ValueError("enabled: is for a default rule; leave a rule of your own out")
        if self.comparison == "absent":
            if limits or self.hysteresis:
                raise ValueError("comparison: absent takes no limit")
            return self
        if self.severity:
            raise ValueError("severity: warning is medium, and critical is critical")
        if not limits:
            raise ValueError("warning: this limit or critical is needed")
        if len(limits) > 1 and (limits[0] >= limits[1] if self.comparison == "greater" else limits[0] <= limits[1]):
            raise ValueError("critical: must lie beyond warning")
        return self


class Retrain(Section):
    """A webhook that is asked for a new model."""

    url: FilledUrl = Field(
        strict=False, description="Where to POST, `https://…`; `${NAME}` is read from the environment."
    )
    headers: dict[Annotated[str, Field(pattern=_HEADER)], FilledSecret] = Field(
        {}, strict=False, description="Headers to send, for example `Authorization: Bearer ${TOKEN}`."
    )
    body: str | None = Field(None, description="Jinja template of the JSON to send; null sends all that is known.")
    cooldown: Duration = Field(Duration(86400.0), description="Time between two requests for one model.")

    @field_validator("url")
    @classmethod
    def _web(cls, url: ChannelUrl) -> ChannelUrl:
        if url.scheme not in ("http", "https"):
            raise ValueError("a webhook is at https:// or http://")
        return url


class Notify(Section):
    """One channel, and of which alerts it is told; a URL alone is told of all."""

    url: FilledUrl = Field(
        strict=False,
        description="apprise's URL of a channel, or `alertmanager+http://HOST:9093`; `${NAME}` is a variable's value.",
    )
    severities: tuple[Severity, ...] = Field(
        ("critical", "high", "medium", "low"), strict=False, min_length=1, description="Severities that it is told of."
    )

    @model_validator(mode="before")
    @classmethod
    def _by_url(cls, data: Any) -> Any:
        """A URL alone stands for the channel."""
        return {"url": data} if isinstance(data, str) else data


class Alerts(Section):
    """Who is told."""

    notify: tuple[Notify, ...] = Field(
        (),
        strict=False,
        max_length=16,
        description="Channels to tell, each a URL or the keys below; see [alerting.md](alerting.md).",
    )
    rules: tuple[Rule, ...] = Field(
        (Rule(name="default"),),
        strict=False,
        max_length=100,
        description="`default`, or a list of default rules and rules of your own; see [rules.md](rules.md).",
    )
    retrain: Retrain | None = Field(
        None, description="A pipeline to ask for a new model; null: advice alone. See [retraining.md](retraining.md)."
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _one_rule(cls, data: Any) -> Any:
        return [data] if isinstance(data, str) else data
