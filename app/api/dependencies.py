"""Dependencies of endpoints: services, keys and scopes, times, pages."""

from __future__ import annotations

import asyncio
import re
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from prometheus_client import CollectorRegistry
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from starlette.datastructures import QueryParams

from app.alerting.evaluation import AlertUpdater
from app.alerting.rules.configured import RuleSet
from app.alerting.service.summary import ReplicaRequests
from app.api.documentation import answer_of
from app.api.http import BodyLimits, Call, client_of
from app.api.middleware import TrustedHosts
from app.api.request_guards import GRANT, Grant, Keyring, RateLimits
from app.background import BackgroundTask, PeriodicTask
from app.config.settings import Config, Scope
from app.errors import FieldError, Invalid, Unavailable
from app.metrics import ServingMetrics
from app.monitoring.monitor import RequestedCheck
from app.serving.activation import Activator
from app.serving.predictor import Predictor
from app.serving.registry import Model, Registry
from app.store.database import Readers
from app.store.journal.journal import Journal
from app.store.journal.spool import Spooler
from app.store.privacy import Privacy
from app.store.queries.keys import StoredKey
from app.telemetry import Sender
from app.types import Json, Micros, ModelSchema, from_datetime

_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _written(value: Any) -> Any:
    """Accept text that is a date and a time, and nothing else.

    pydantic would read a number as seconds or as milliseconds.
    """
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise ValueError("expected an RFC 3339 time such as 2026-11-20T10:00:00Z")
    return value


Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_written)]
"""A time in a body or a query string."""


def _visible(text: str) -> str:
    """Refuse text without a letter, digit, mark, sign or symbol, such as spaces of no width."""
    if not any(unicodedata.category(character)[0] in "LNPSM" for character in text):
        raise ValueError("must hold a character that can be seen")
    return text


Reason: TypeAlias = Annotated[
    str,
    AfterValidator(_visible),
    Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$", description="why, for those who read it later"),
]
"""What a person gives as the reason of an act."""


class Monitoring(Protocol):
    """Runs checks when a caller asks for them, and changes alerts.

    Attributes:
        updater: changes alerts in the writer thread.
    """

    updater: AlertUpdater

    async def check_now(self, model_version: str, seconds: float) -> list[RequestedCheck]:
        """Run every check on a version; return when all have ended, or after some seconds."""


class MetricsRefresh(Protocol):
    """The metrics whose figures are in the store."""

    async def refresh(self) -> None:
        """Read the figures again, before a scrape."""


class StoredKeys(Protocol):
    """The keys of the store behind the keyring."""

    task: PeriodicTask

    async def refresh(self) -> list[StoredKey]:
        """Take the stored keys as they are now."""

    async def note_uses(self, stored: Iterable[StoredKey], *, older_s: float) -> None:
        """Store when the keys were last used, where the stored time is older than so many seconds."""


@dataclass(frozen=True)
class Services:
    """The parts of the running application that endpoints use.

    Attributes:
        spans: takes the spans of requests; None where traces are not sent.
        rules: the rules that alerts can come from.
        background: the tasks that must run as long as the service does; ``/health/ready`` asks all of them.
    """

    config: Config
    registry: Registry
    activator: Activator
    predictor: Predictor
    journal: Journal
    spooler: Spooler | None
    readers: Readers
    metrics: ServingMetrics
    series: CollectorRegistry
    keyring: Keyring
    keys: StoredKeys
    spans: Sender | None
    rules: RuleSet
    privacy: Privacy
    monitoring: Monitoring
    counts: ReplicaRequests
    stored_metrics: MetricsRefresh
    background: list[BackgroundTask]

    @cached_property
    def hosts(self) -> TrustedHosts:
        """Give the hosts and origins whose requests are taken."""
        return TrustedHosts(self.config.server, self.keyring)

    @cached_property
    def rates(self) -> RateLimits:
        """Give the limits of requests by key and by address."""
        return RateLimits(self.config.limits)

    @cached_property
    def large_bodies(self) -> ThreadPoolExecutor:
        """Give the one thread that decodes large bodies, of all routes."""
        return ThreadPoolExecutor(1, thread_name_prefix="plumbline-bodies")

    @cached_property
    def turns(self) -> Turns:
        """Give the turns of long work."""
        return Turns()

    @cached_property
    def texts(self) -> SharedRender:
        """Give the texts that callers share."""
        return SharedRender()

    @property
    def body_limits(self) -> BodyLimits:
        """Give the limits of a body."""
        return BodyLimits(self.config.server.max_body_bytes, self.config.server.receive_timeout)


MAX_STREAMS = 4
"""Exports that are under way at once."""
MAX_WAITING = 64
"""Calls that wait for their turn."""
SWITCH_S = 0.0005
"""How long a thread of long work keeps Python from the event loop, which asks for it several times in a request."""
MAX_REST_S = 0.1
"""Longest rest behind a part; a shorter part rests as long as it took."""
STALLED_S = 30.0
"""A stream whose reader has taken nothing for so long keeps nobody else from one."""


class Turns:
    """Does long work of other threads in small parts, one at a time, with a rest behind each.

    Python runs one thread at a time: four threads that render all the time would leave the event loop a fifth of it.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._rest_until = 0.0
        self._streams: WeakKeyDictionary[object, float] = WeakKeyDictionary()

    async def run(self, work: Callable[[], Awaitable[Item]]) -> Item:
        """The result of a part, which takes some ten milliseconds.

        Raises:
            Unavailable: too many wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many long answers are being made")
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(max(0.0, self._rest_until - perf_counter()))
                started, usual_s = perf_counter(), sys.getswitchinterval()
                sys.setswitchinterval(SWITCH_S)
                try:
                    return await work()
                finally:
                    sys.setswitchinterval(usual_s)
                    ended = perf_counter()
                    self._rest_until = ended + min(ended - started, MAX_REST_S)
        finally:
            self._waiting -= 1

    def begin_stream(self, stream: object) -> None:
        """Give an export its place.

        Raises:
            Unavailable: too many are under way.
        """
        now = perf_counter()
        if sum(now - taken < STALLED_S for taken in self._streams.values()) >= MAX_STREAMS:
            raise Unavailable(f"{MAX_STREAMS} exports are under way already")
        self._streams[stream] = now

    def note_taken(self, stream: object) -> None:
        """Note that the reader of an export has taken a part."""
        self._streams[stream] = perf_counter()

    def end_stream(self, stream: object) -> None:
        """Give the place to the next export."""
        self._streams.pop(stream, None)


class SharedRender:
    """Makes one text at a time in another thread.

    Callers that come meanwhile share the next one.
    """

    def __init__(self) -> None:
        self._busy = asyncio.Lock()
        self._rest_until = 0.0
        self._next: dict[Hashable, asyncio.Task[bytes]] = {}

    async def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """The text of a key, made after this call; a caller that leaves takes it from nobody else."""
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._make(key, make))
        return await asyncio.shield(task)

    async def _make(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        async with self._busy:
            await asyncio.sleep(max(0.0, self._rest_until - perf_counter()))
            del self._next[key]  # whoever comes from now on is too late for this one
            started = perf_counter()
            try:
                return await asyncio.to_thread(make)
            finally:
                ended = perf_counter()
                self._rest_until = ended + min(ended - started, MAX_REST_S)


async def get_services(request: Request) -> Services:
    """The parts of the running application."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_model(services: ServicesDep, model_version: str | None = None) -> Model:
    """The loaded version that ``?model_version=`` names, by default the active one."""
    return services.registry.get(model_version)


ModelDep = Annotated[Model, Depends(get_model)]


async def get_schema(services: ServicesDep, model_version: str | None = None) -> ModelSchema:
    """Give the schema of the version that ``?model_version=`` names, or of the active one.

    The version is loaded, or it is a shadow.
    """
    return services.registry.schema(model_version)


SchemaDep = Annotated[ModelSchema, Depends(get_schema)]


def require(scope: Scope) -> Callable[[Request, Services], Awaitable[str | None]]:
    """A dependency that lets only keys with this scope pass; it gives the key's name."""

    async def check(request: Request, services: ServicesDep) -> str | None:
        name = _authorise(request, services, scope)
        services.rates.count_key(name, perf_counter())
        return name

    return check


def _authorise(request: Request, services: Services, scope: Scope) -> str | None:
    """The name of the caller's key; its rights are kept with the request."""
    grant = services.keyring.authorise(dict(request.scope["headers"]), scope, client_of(request.scope))
    request.scope[GRANT] = grant
    return grant.name if grant else None


async def bound_model(request: Request) -> str | None:
    """The only model that the caller's key may ask about; None: every one.

    To be used behind :func:`require`.
    """
    grant: Grant | None = request.scope.get(GRANT)
    return grant.model if grant else None


BoundModel = Annotated[str | None, Depends(bound_model)]


async def refuse_unknown_parameters(request: Request, services: ServicesDep) -> None:
    """Refuse a query parameter that the route does not take.

    A misspelled filter would silently filter nothing.

    The key is asked for first, as on every other request.

    Raises:
        Invalid: naming the parameters.
        Unauthenticated, Forbidden: see :meth:`Keyring.authorise`.
    """
    if request.scope["query_string"]:
        declared = answer_of(request.scope["route"].endpoint)
        if declared is not None and declared.scope is not None:
            _authorise(request, services, declared.scope)
        check_parameters(request.query_params.keys(), set(_parameters(request.scope["route"].dependant)))


def check_query(call: Call, *known: str) -> None:
    """Check the query parameters of a request for a hot endpoint.

    See :func:`check_parameters`.
    """
    if call.query_string:
        check_parameters(QueryParams(call.query_string.decode("latin-1")).keys(), known)


def check_parameters(given: Iterable[str], known: Collection[str]) -> None:
    """Compare the names of query parameters with those that a route takes.

    Raises:
        Invalid: naming the unknown ones.
    """
    unknown = list(dict.fromkeys(name for name in given if name not in known))[:MAX_UNKNOWN_PARAMETERS]
    if unknown:
        expected = f"one of {', '.join(sorted(known))}" if known else "no query parameter"
        raise Invalid([FieldError(name, expected, "unknown query parameter") for name in unknown], "query")


def _parameters(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for inner in dependant.dependencies:
        yield from _parameters(inner)


MAX_UNKNOWN_PARAMETERS = 20
"""Unknown parameters that one answer names."""
Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=1000, description="Most items in one answer.")]
Cursor = Annotated[
    str, Query(max_length=256, pattern=r"^[A-Za-z0-9._:-]*$", description="`next` of the answer before.")
]
From = Annotated[Moment | None, Query(alias="from", description="From this time on; RFC 3339 with its zone.")]
To = Annotated[Moment | None, Query(alias="to", description="Before this time; RFC 3339 with its zone.")]


def micros(moment: Moment | None) -> Micros | None:
    """A query's time as the store keeps it."""
    return None if moment is None else from_datetime(moment)


def page(found: Sequence[Item], limit: int, render: Callable[[Item], Any], cursor: Callable[[Item], str]) -> Json:
    """Make a page of at most ``limit`` items.

    ``found`` has up to ``limit + 1``: one more says that there is a next page.
    """
    shown = found[:limit]
    return {"items": [render(item) for item in shown], "next": cursor(shown[-1]) if len(found) > limit else None}
