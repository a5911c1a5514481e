"""``plumbline serve``."""

from __future__ import annotations

import gc
import math
import os
import shlex
import sys
from functools import partial
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from app.config.loader import known_secrets, load_config
from app.logging import configure_logging, line_outputs

if TYPE_CHECKING:
    from app.api.app import Application
    from app.api.dependencies import Services
    from app.config.settings import Config
    from app.serving.registry import Model
    from app.types import Json, Scalar

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The YAML file, by default config.yaml where there is one; PLUMBLINE__SECTION__KEY in the environment "
        "beats it.",
    ),
]
CONFIG = Path("config.yaml")

DEFAULT_URL = "http://127.0.0.1:8000"
MAX_NAMED_FEATURES = 8
"""A row of more features is shown as a list."""
MAX_EXAMPLES = 20
GC_THRESHOLDS = (10_000, 20, 20)
"""A request makes hundreds of short-lived objects and no cycles; Python's own 700 would look for some all the time."""


def read_config(config: Path | None) -> Config:
    """The configuration of a file, by default config.yaml; the defaults where there is none.

    Raises:
        ConfigError: see :func:`load_config`.
    """
    return load_config(config or (CONFIG if CONFIG.exists() else None), os.environ)


def serve(config: ConfigFile = None) -> None:
    """Serve the configured model."""
    settings = read_config(config)
    start_logging(settings)
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


def start_logging(settings: Config) -> None:
    """Log as the settings say.

    Raises:
        ConfigError: the file of the log cannot be written.
    """
    chosen = settings.logging
    as_json = {"json": True, "console": False, "auto": None}[chosen.format]
    configure_logging(level=chosen.level, json=as_json, file=chosen.file, secrets=known_secrets(settings))


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
    shows = sys.stdout.isatty() and line_outputs()[0].for_people
    on_start = partial(show_banner, app.state.services) if shows else None
    server = PlumblineServer(uvicorn_config, context, settings.receive_timeout, on_start)
    app.add_background_task(server.task)
    server.run()


def show_banner(services: Services, port: int) -> None:
    """Print where the service answers, and what to type next."""
    typer.echo(banner(services, port))


def banner(services: Services, port: int) -> str:
    """The text at the start: addresses, a request that works, and what to type next."""
    server, model = services.config.server, services.registry.active
    host = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104 - what a person can open
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    needs_key = services.keyring.guards("predict")
    key = " -H 'x-api-key: YOUR_KEY'" if needs_key else ""
    row = example_row(model)
    body = shlex.quote(orjson.dumps({"features": row}).decode())
    json_type = "-H 'content-type: application/json'"
    command = plumbline_command()
    option = f" --url {address}" if address != DEFAULT_URL else ""
    option += " --api-key YOUR_KEY" if needs_key else ""
    steps = [
        *([f"curl -s {address}/predict{key} {json_type} -d {body}"] if row is not None else []),
        f"{command} simulate{option}    # send rows with outcomes, where the bundle has some",
        f"{command} status{option}      # requests, drift, performance and alerts",
    ]
    keys = [f"  Keys are needed: replace YOUR_KEY; {command} keys new NAME makes one."] if needs_key else []
    return "\n".join(
        [
            "",
            f"Plumbline serves {model.schema.name} {model.schema.version}.",
            "",
            f"  page  {address}/dashboard",
            f"  API   {address}/docs",
            "",
            "Next, in another terminal:",
            "",
            *(f"  {step}" for step in steps),
            "",
            *keys,
            "  Ctrl-C here stops the service.",
            "",
        ]
    )


def example_row(model: Model) -> Json | list[Scalar] | None:
    """A plain row that the model takes; None where it takes none of some.

    It is a row of averages, and nobody's.
    """
    from app.api.examples import synthetic_rows
    from app.api.openapi import ask_model

    names = model.schema.feature_names
    for row in islice(synthetic_rows(model.schema, model.bundle.profile["features"], lambda _: False), MAX_EXAMPLES):
        if ask_model(model, dict(zip(names, row, strict=True))) is not None:
            return list(row) if len(names) > MAX_NAMED_FEATURES else dict(zip(names, row, strict=True))
    return None


def plumbline_command() -> str:
    """The words by which this program is called from the current folder."""
    program = Path(sys.executable).with_name("plumbline")
    if not program.is_file() or os.environ.get("PATH", "").startswith(str(program.parent)):
        return "plumbline"
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else str(program)


def freeze_startup_objects() -> None:
    """Keep the garbage collector away from objects made at start-up.

    They live for ever, and the collector would write to each of their pages.
    """
    gc.collect()
    gc.freeze()
