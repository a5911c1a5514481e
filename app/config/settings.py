"""Every configuration key, with its type, unit, bounds, default and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, SecretStr, field_validator, model_validator

from app.config.fields import (
    ChannelUrl,
    DigestEvery,
    Duration,
    FilledSecret,
    FilledUrl,
    Limits,
    Logging,
    Privacy,
    Section,
)
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
    """The receivers of messages."""

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
    digest: DigestEvery = Field(
        "off",
        description="A summary for all channels at 8 h UTC, each day or each Monday; see [alerting.md](alerting.md).",
    )
    retrain: Retrain | None = Field(
        None, description="A pipeline to ask for a new model; null: advice alone. See [retraining.md](retraining.md)."
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _one_rule(cls, data: Any) -> Any:
        return [data] if isinstance(data, str) else data


_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Server(Section):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to listen on; beyond loopback, there must be a key.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")
    max_body_bytes: int = Field(8 * 2**20, ge=1024, le=2**30, description="Largest request body, in bytes.")
    receive_timeout: Duration = Field(Duration(10.0), description="Time a client has to send a whole request.")
    deadline: Duration = Field(Duration(30.0), description="Time an answer may take, queues included; then 504.")
    drain_timeout: Duration = Field(
        Duration(20.0), description="Time that requests in flight have to finish after SIGTERM."
    )
    public_url: str = Field(
        "",
        pattern=r"^(https?://[^\s]+)?$",
        description="Address of the service in the links of messages, `https://…`; empty: its host and port.",
    )

    trusted_hosts: tuple[Annotated[str, Field(pattern=r"^(\*|(\*\.)?[A-Za-z0-9._:-]{1,253})$")], ...] = Field(
        (),
        strict=False,
        max_length=100,
        description="Names that a `Host` may have beside loopback and `host`; `*.example.com`; with keys, empty: any.",
    )

    @property
    def is_local(self) -> bool:
        """Tell whether only this machine can reach the service."""
        return self.host in _LOOPBACK

    @property
    def address(self) -> str:
        """Give the address that links begin with."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"


Version: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Serving(Section):
    """The model and the batcher in front of it."""

    models: Path = Field(Path("models"), strict=False, description="Folder of bundles, `<name>/<version>/`.")
    active: str = Field(
        "breast_cancer",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$",
        description="Model to serve, `name` (its highest version) or `name/version`; one activated over HTTP beats it.",
    )
    max_batch_rows: int = Field(512, ge=1, le=65536, description="Most rows in one call of the model.")
    max_queue_rows: int = Field(20_000, ge=1, description="Most rows waiting for the model or the store; then 503.")
    runtime: Literal["auto", "onnx", "sklearn"] = Field("auto", description="What runs the model; auto: ONNX if able.")
    allow_pickle: bool = Field(
        False, description="Load bundles that run code: joblib files, and models of own modules (bundle --code-path)."
    )
    trusted_types: tuple[str, ...] = Field(
        (), strict=False, description="Types that skops may load beyond the reviewed list."
    )
    shadows: tuple[Version, ...] = Field(
        (),
        strict=False,
        max_length=4,
        description="Versions of the served model that repeat its rows, each in a process of its own, to be compared.",
    )
    probation: Duration = Field(
        Duration(600.0), description="Time after an activation in which a failing version is rolled back."
    )


class Store(Section):
    """The place of predictions, outcomes and reports."""

    url: SecretStr = Field(
        SecretStr("sqlite:///plumbline.db"),
        strict=False,
        description="Database, `sqlite:///FILE` or `postgresql+psycopg://…`.",
    )
    on_outage: Literal["reject", "spool"] = Field("reject", description="Without PostgreSQL: answer 503, or spool.")
    spool_path: Path = Field(Path("spool.db"), strict=False, description="File of the spool, one for each replica.")
    spool_max_bytes: int = Field(2**30, ge=2**20, description="Largest spool, in bytes; when it is full: 503.")
    retention: Duration = Field(
        Duration(90 * 86400), description="Age at which predictions, outcomes and reports are deleted."
    )

    @model_validator(mode="after")
    def _known_database(self) -> Store:
        if not self.url.get_secret_value().startswith(("sqlite:///", "postgresql")):
            raise ValueError("url: a database is sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
        if self.on_outage == "spool" and self.url.get_secret_value().startswith("sqlite"):
            raise ValueError("on_outage: spool needs PostgreSQL at store.url; a SQLite file is as near as its spool")
        return self


class AbsentMeans(Section):
    """The label of rows without an outcome."""

    label: str | int | float | bool = Field(description="Label that a row without an outcome counts as.")
    after: Duration = Field(description="Age from which it does.")


class Outcomes(Section):
    """The treatment of outcomes."""

    unknown: Literal["reject", "hold"] = Field(
        "reject", description="An outcome without its prediction: 404, or kept as pending."
    )
    hold_for: Duration = Field(Duration(7 * 86400), description="Time a pending outcome waits for its prediction.")
    max_pending: int = Field(
        100_000, ge=1, le=100_000_000, description="Most outcomes that wait for their prediction; then 503."
    )
    absent_means: AbsentMeans | None = Field(
        None, description="What no outcome means, for example no complaint in 30 days: `{label: 0, after: 30d}`."
    )


class DriftWindow(Section):
    """The rows a drift check looks at."""

    rows: int = Field(1000, ge=50, le=100_000, description="Rows in a window.")
    hours: float = Field(
        1.0,
        ge=0,
        le=24 * 366,
        strict=False,
        description="Hours an even sample covers on a busy service; 0: the latest rows only.",
    )


class PerformanceWindow(DriftWindow):
    """The rows a performance check looks at."""

    hours: float = Field(
        24.0,
        ge=0,
        le=24 * 366,
        strict=False,
        description="Hours an even sample covers on a busy service; 0: the latest rows only.",
    )


class Drift(Section):
    """The drift monitor."""

    every: Duration = Field(Duration(60.0), description="Time between two checks.")
    window: DriftWindow = DriftWindow()
    false_alarm_every: Duration = Field(
        Duration(30 * 86400), description="At most one false alarm in this time, over all features and looks."
    )
    material_psi: float = Field(
        0.01, ge=0, le=10, strict=False, description="Smallest drift that matters: PSI above its noise floor."
    )
    entity: str | None = Field(
        None,
        min_length=1,
        description="Feature or key of the context whose rows resemble each other, such as a user; null: looked for.",
    )
    retrain_share: float = Field(
        0.3, gt=0, le=1, strict=False, description="Share of drifted features from which retraining is recommended."
    )


class Performance(Section):
    """The performance monitor."""

    every: Duration = Field(Duration(60.0), description="Time between two checks.")
    window: PerformanceWindow = PerformanceWindow()
    label_delay: Literal["auto"] | Duration = Field(
        "auto", description="Age from which rows are judged; auto: the observed 95th percentile."
    )
    degradation: float = Field(
        0.05, gt=0, lt=1, strict=False, description="Allowed loss: points of a share, or this share more of an error."
    )
    segments: tuple[str, ...] = Field(
        (), strict=False, max_length=16, description="Features (for drift too) or keys of the context to report by."
    )


Scope: TypeAlias = Literal["predict", "outcome", "read", "metrics", "admin"]


class Key(Section):
    """One API key, by its hash."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Name of the key in logs and audits.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, as `plumbline keys` prints it.")
    scopes: tuple[Scope, ...] = Field(("predict", "outcome", "read"), strict=False, min_length=1, description="Rights.")
    model: str | None = Field(None, description="The only model that the key may ask about; null: every one.")


class Auth(Section):
    """The keys of callers."""

    keys: tuple[Key, ...] = Field(
        (),
        strict=False,
        description="API keys; none here and in the store: loopback only, and all is open.",
    )
    open: tuple[Literal["metrics", "docs"], ...] = Field(
        ("metrics", "docs"),
        strict=False,
        description="What needs no key although there are keys; a key with the scope `metrics` closes `/metrics` too.",
    )

    @model_validator(mode="after")
    def _distinct(self) -> Auth:
        """Two keys of one name are one in every log; one key of two names has the scopes of either."""
        for field in ("name", "sha256"):
            places: dict[str, int] = {}
            for place, key in enumerate(self.keys):
                first = places.setdefault(getattr(key, field), place)
                if first != place:
                    raise ValueError(f"keys.{place}.{field}: is that of the key {self.keys[first].name} already")
        return self


class Config(Section):
    """The whole configuration."""

    server: Server = Server()
    serving: Serving = Serving()
    store: Store = Store()
    outcomes: Outcomes = Outcomes()
    drift: Drift = Drift()
    performance: Performance = Performance()
    alerts: Alerts = Alerts()
    logging: Logging = Logging()
    limits: Limits = Limits()
    privacy: Privacy = Privacy()
    auth: Auth = Auth()

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, data: Any) -> Any:
        """A section without keys (``alerts:``) is an empty section."""
        return {key: {} if value is None else value for key, value in data.items()} if isinstance(data, dict) else data
