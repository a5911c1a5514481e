"""The whole application inside the test's process: its real parts on a store of the test's own."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeVar

import httpx
import structlog
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection

from app.api.dependencies import Services
from app.config.settings import Config
from app.logging import configure_logging
from app.main import create_app
from app.monitoring.monitor import LEASE
from app.monitoring.worker import Worker
from app.serving.bundle.verification import memory_of
from app.store.database import open_database
from app.store.migrate import upgrade
from app.store.queries.predictions import stream
from app.store.queries.replicas import acquire
from tests.support.deadlines import DEADLINE_S

Result = TypeVar("Result")
HOST = "http://127.0.0.1"
DAY_S = 86_400


def make_config(folder: Path, models: Path, active: str, **sections: Mapping[str, Any]) -> Config:
    """A configuration whose store lies in ``folder``, whose monitor does not run by itself, and that has time."""
    data: dict[str, dict[str, Any]] = {
        "server": {"deadline": "1h", "trusted_hosts": ["x"]},  # the host of the requests in tests/server/corpus
        "serving": {"models": str(models), "active": active},
        "store": {"url": f"sqlite:///{folder / 'plumbline.db'}"},
        "drift": {"every": "1d"},
        "performance": {"every": "1d"},
    }
    for section, keys in sections.items():
        data[section] = {**data.get(section, {}), **keys}
    return Config.model_validate(data)


@asynccontextmanager
async def running(config: Config, worker: Worker | None = None) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The running application with a client for many calls at once; ``worker`` runs its checks.

    Where a check is a matter of days, the monitor runs none: on a slow machine its first look could meet rows.
    """
    if config.drift.every >= DAY_S:
        watch_elsewhere(config.store.url.get_secret_value())
    with verified_before(config):
        app = create_app(config, worker)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # a caller is no browser: it keeps no cookie
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=HOST, timeout=DEADLINE_S, cookies=jar) as client,
    ):
        yield app, client


@contextmanager
def verified_before(config: Config) -> Iterator[None]:
    """Let a start know which bundles passed in other tests: a store of each test's own remembers none."""
    shared, own = Path(tempfile.gettempdir()) / f"plumbline-verified-{os.getpid()}.json", memory_of(config)
    if shared.exists() and not own.exists():
        shutil.copy(shared, own)
    yield
    if own.exists():
        shutil.copy(own, shared)


class Client:
    """Calls the application one request at a time; it runs in an event loop of its own thread."""

    def __init__(self, portal: BlockingPortal, app: FastAPI, client: httpx.AsyncClient) -> None:
        self.app = app
        self.portal = portal
        self._client = client

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET a path; ``params`` and ``headers`` are options."""
        return self.portal.call(partial(self._client.get, path, **options))

    def head(self, path: str, **options: Any) -> httpx.Response:
        """HEAD of a path; ``params`` and ``headers`` are options."""
        return self.portal.call(partial(self._client.head, path, **options))

    def post(self, path: str, body: object = None, **options: Any) -> httpx.Response:
        """POST a JSON body, or ``content`` as it is; ``params`` and ``headers`` are options."""
        if "content" not in options and body is not None:
            options["json"] = body
        return self.portal.call(partial(self._client.post, path, **options))

    def delete(self, path: str, **options: Any) -> httpx.Response:
        """DELETE a path."""
        return self.portal.call(partial(self._client.delete, path, **options))

    def ask(self, method: str, path: str) -> httpx.Response:
        """A request of any method, without a body."""
        return self.portal.call(partial(self._client.request, method, path))

    def raw(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        """POST bytes that claim to be JSON."""
        return self.post(path, content=content, headers={"content-type": "application/json", **headers})

    def read(self, read: Callable[[Connection], Result]) -> Result:
        """What a query finds in the store."""
        return self.portal.call(self.services.readers.run, read)

    def wait_for(self, act: Callable[[], Awaitable[Result]]) -> Result:
        """The result of an act in the application's event loop."""
        return self.portal.call(act)

    def set_profile(self, function: Any) -> None:
        """Set the profile function of the application's thread."""
        self.portal.call(partial(sys.setprofile, function))

    @property
    def routes(self) -> list[tuple[str, str, bool]]:
        """Every route of the framework: path, method, and whether it is described."""
        return [
            (str(route.path), method, bool(route.include_in_schema))
            for route in iter_route_contexts(self.app.routes)
            for method in route.methods or ()
        ]

    @property
    def services(self) -> Services:
        """The parts behind the routes."""
        return services_of(self.app)

    @property
    def rows(self) -> int:
        """The number of stored predictions."""
        return self.read(lambda connection: sum(1 for _ in stream(connection)))


@contextmanager
def client_of(config: Config, worker: Worker | None = None) -> Iterator[Client]:
    """A client of the running application, which stops at the end; ``worker`` runs its checks."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running(config, worker)) as (app, client):
        yield Client(portal, app, client)


def watch_elsewhere(url: str) -> None:
    """Let another replica hold the monitor's lease, so that checks run only when they are asked for."""
    database = open_database(url)
    try:
        upgrade(database.writer)
        with database.writer.begin() as connection:
            acquire(connection, LEASE, "elsewhere", seconds=3600)
    finally:
        database.close()


def services_of(app: FastAPI) -> Services:
    """The parts behind the routes."""
    services: Services = app.state.services
    return services


def samples(metrics: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of an exposition by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }


def ledger(metrics: str) -> dict[str, float]:
    """The ledger by its words; ``missing`` is what does not add up."""
    found = samples(metrics)
    rows = {state: found["ml_journal_rows_total", (("state", state),)] for state in ("accepted", "stored", "forwarded")}
    failed = sum(value for (name, _), value in found.items() if name == "ml_journal_failed_rows_total")
    queued, spooled = found["ml_journal_queue_rows", ()], found["ml_journal_spooled_rows", ()]
    undecided = found["ml_journal_undecided_rows", ()]
    missing = rows["accepted"] - rows["stored"] - rows["forwarded"] - failed - queued - spooled
    return {**rows, "failed": failed, "queued": queued, "undecided": undecided, "spooled": spooled, "missing": missing}


@contextmanager
def service_log(secrets: Collection[str] = ()) -> Iterator[None]:
    """Log on standard output, as ``plumbline serve`` does; services are to be started inside."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logging(json=True, secrets=secrets)
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        structlog.reset_defaults()
