"""``plumbline serve``."""

from __future__ import annotations

import gc
import math
import os
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.config.loader import known_secrets, load_config
from app.logging import configure_logging

if TYPE_CHECKING:
    from app.api.app import Application
    from app.config.settings import Config

ConfigFile = Annotated[
    Path, typer.Option("--config", help="The YAML file; PLUMBLINE__SECTION__KEY in the environment beats it.")
]

GC_THRESHOLDS = (10_000, 20, 20)
"""A request makes hundreds of short-lived objects and no cycles; Python's own 700 would look for some all the time."""


def serve(config: ConfigFile = Path("config.yaml")) -> None:
    """Serve the configured model."""
    settings = load_config(config, os.environ)
    configure_logging(secrets=known_secrets(settings))
    gc.set_threshold(*GC_THRESHOLDS)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a model has one thread here, and none may stand beside a fork
    from app.monitoring.worker import SHARED, Worker
    from app.store.migrate import create_apart

    store = settings.store.url.get_secret_value()
    worker = Worker(store)
    for module in SHARED:
        import_module(module)
    freeze_startup_objects()
    create_apart(store)
    worker.fork()  # what both need is loaded, and no thread runs yet
    from app.main import create_app

    app = create_app(settings, worker)
    freeze_startup_objects()
    run(app, settings)


def run(app: Application, config: Config) -> None:
    """Serve until a signal asks to stop; requests in flight are answered first."""
    import uvicorn

    from app.server.fast_path import KEEP_ALIVE_S, FastPathProtocol
    from app.server.server import BACKLOG, PlumblineServer, ServerContext, usable_connections

    settings = config.server
    connections, descriptor = usable_connections(config.limits)
    context = ServerContext(
        app.hot_routes,
        app,
        settings.max_body_bytes,
        config.limits,
        app.state.services.metrics.connections,
        max_connections=connections,
        max_descriptor=descriptor,
        is_open=lambda: not app.state.services.keyring.guards("predict"),
    )
    uvicorn_config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=partial(FastPathProtocol, context=context),  # type: ignore[arg-type]  # whatever makes a protocol will do
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # nothing here asks where a request came from
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
    )
    server = PlumblineServer(uvicorn_config, context, settings.receive_timeout)
    app.add_background_task(server.task)
    server.run()


def freeze_startup_objects() -> None:
    """Keep the garbage collector away from objects made at start-up.

    They live for ever, and the collector would write to each of their pages.
    """
    gc.collect()
    gc.freeze()
