"""``plumbline serve``."""

from __future__ import annotations

import gc
import os
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from app.config.loader import known_secrets, load_config
from app.logging import configure_logging

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
    from app.server.server import serve as serve_app

    app = create_app(settings, worker)
    freeze_startup_objects()
    serve_app(app, settings)


def freeze_startup_objects() -> None:
    """Keep the garbage collector away from objects made at start-up.

    They live for ever, and the collector would write to each of their pages.
    """
    gc.collect()
    gc.freeze()
