"""``plumbline serve``."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Annotated

import typer

from app.configfile import load_config
from app.logging import configure_logging

ConfigFile = Annotated[
    Path, typer.Option("--config", help="The YAML file; PLUMBLINE__SECTION__KEY in the environment beats it.")
]

GC_THRESHOLDS = (10_000, 20, 20)
"""A request makes hundreds of short-lived objects and no cycles; Python's own 700 would look for some all the time."""


def serve(config: ConfigFile = Path("config.yaml")) -> None:
    """Serve the configured model."""
    settings = load_config(config, os.environ)
    configure_logging()
    from app.main import create_app
    from app.server import serve as serve_app

    app = create_app(settings)
    gc.collect()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()  # what start-up made lives for ever: the collector need not look at it again while requests wait
    serve_app(app, settings.server)
