"""The finished parts that the routes call, handed to them by ``main``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from app.alerting.ruleset import RuleSet
from app.api.security import Keyring
from app.api.wire import BodyLimits
from app.config import Config, Scope
from app.metrics import ServingMetrics
from app.serving.lifecycle import Lifecycle
from app.serving.model import Model
from app.serving.predictor import Predictor
from app.serving.registry import Registry
from app.store.journal import Journal
from app.store.readers import Readers
from app.store.spooler import Spooler
from app.types import ModelSchema, Report


@dataclass(frozen=True)
class Services:
    """Everything behind the HTTP room.

    Attributes:
        check_now: runs every check on a version and returns the saved reports.
        rules: of which alerts there may be.
        refresh: brings the metrics that speak of stored reports up to date, before a scrape.
    """

    config: Config
    registry: Registry
    lifecycle: Lifecycle
    predictor: Predictor
    journal: Journal
    spooler: Spooler | None
    readers: Readers
    metrics: ServingMetrics
    series: CollectorRegistry
    keyring: Keyring
    rules: RuleSet
    check_now: Callable[[str], Awaitable[list[Report]]]
    refresh: Callable[[], Awaitable[None]]
    monitor_alive: Callable[[], bool]

    @property
    def body_limits(self) -> BodyLimits:
        """What a body may be."""
        return BodyLimits(self.config.server.max_body_bytes, self.config.server.receive_timeout)


def get_services(request: Request) -> Services:
    """The parts of the running application."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


def get_model(services: ServicesDep, model_version: str | None = None) -> Model:
    """The loaded version that ``?model_version=`` names, by default the active one."""
    return services.registry.get(model_version)


ModelDep = Annotated[Model, Depends(get_model)]


def get_schema(services: ServicesDep, model_version: str | None = None) -> ModelSchema:
    """The schema of the version that ``?model_version=`` names, loaded or a shadow; by default the active one."""
    return services.registry.schema(model_version)


SchemaDep = Annotated[ModelSchema, Depends(get_schema)]


def require(scope: Scope) -> Callable[[Request, Services], str | None]:
    """A dependency that lets only keys with this scope pass; it gives the key's name."""

    def check(request: Request, services: ServicesDep) -> str | None:
        return services.keyring.authorise(dict(request.scope["headers"]), scope)

    return check
