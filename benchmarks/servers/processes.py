"""Servers to measure, each on one core, while this process, its load and its PostgreSQL keep to another."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.load.bodies import bulk_body, live_rows
from tests.support.processes import ROOT, Service, free_port, launch

SERVER_CORE, LOAD_CORE = 0, 1
MODELS = ROOT / "models"
EXAMPLE = "breast_cancer"
FIRST_ROWS = 200
"""Rows before the first checks: enough for a window."""
PATIENCE_S = 120.0
UVICORN = ("--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning", "--host=127.0.0.1")
BARE = {
    "floor": ("benchmarks.servers.floor:app", "--lifespan", "off"),
    "plain": ("benchmarks.servers.plain:create_app", "--factory"),
}


def pin(core: int) -> None:
    """Keep this process, and all that it starts, on one core, where the system can and has cores to share out."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


@contextmanager
def on_server_core() -> Iterator[None]:
    """What starts in the block belongs to the server's core, with every thread and child that it will have."""
    pin(SERVER_CORE)
    try:
        yield
    finally:
        pin(LOAD_CORE)


@contextmanager
def bare(name: str) -> Iterator[tuple[int, int]]:
    """A fresh ``floor`` or ``plain`` under uvicorn; gives its port once it listens, and its process id."""
    port = free_port()
    with on_server_core():
        process = subprocess.Popen([sys.executable, "-m", "uvicorn", *BARE[name], *UVICORN, f"--port={port}"], cwd=ROOT)
    try:
        _wait_listening(port)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def plumbline(
    folder: Path,
    *,
    models: Path = MODELS,
    active: str = EXAMPLE,
    store: str = "",
    settings: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
    key: str = "",
) -> Iterator[tuple[Service, str]]:
    """A fresh service and its store's URL; it has run its first checks, so that none falls due in a short run."""
    with TemporaryDirectory(dir=folder) as place:
        url = store or f"sqlite:///{place}/plumbline.db"
        with on_server_core():
            chosen = {"SERVING__ACTIVE": active, **(settings or {})}
            service = launch(Path(place), models=models, store=url, settings=chosen, under=under)
        try:
            service.wait_ready()
            post(service.port, "/predict", bulk_body(live_rows(models / active / "1", FIRST_ROWS)), key)
            post(service.port, "/checks", key=key)
            yield service, url
        finally:
            service.process.kill()
            service.process.wait()


def post(port: int, path: str, body: bytes = b"", key: str = "") -> None:
    """One request on a connection of its own, for as long as it takes.

    Raises:
        RuntimeError: the answer is not 200.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(
            "POST", path, body, {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
        )
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {text[:500]!r}")


def _wait_listening(port: int) -> None:
    for _ in range(200):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")
