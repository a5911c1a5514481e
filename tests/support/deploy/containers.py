"""Run the command of a container beside the tests, with the environment that its manifest gives it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from tests.support.deadlines import DEADLINE_S
from tests.support.processes import ROOT, Service, free_port

KEY = "plumb_of_a_container"
KEYS = json.dumps([{"name": "all", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "scopes": ["admin"]}])
"""What the secret of a manifest holds in ``PLUMBLINE__AUTH__KEYS``."""


def environment(folder: Path, models: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a container, with the paths and the address of this machine in place of its own."""
    own = {
        "PLUMBLINE__SERVER__HOST": "127.0.0.1",
        "PLUMBLINE__SERVER__PORT": str(free_port()),
        "PLUMBLINE__SERVER__DEADLINE": "1h",
        "PLUMBLINE__SERVING__MODELS": str(models),
        "PLUMBLINE__SERVING__ACTIVE": "mixed",
        "PLUMBLINE__STORE__URL": f"sqlite:///{folder / 'plumbline.db'}",
        "PLUMBLINE__STORE__ON_OUTAGE": "reject",
        "PLUMBLINE__STORE__SPOOL_PATH": str(folder / "spool.db"),
        "PLUMBLINE__AUTH__KEYS": KEYS,
    }
    unknown = {name for name in given if name.startswith("PLUMBLINE__")} - own.keys()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE__")}
    return {**inherited, **{name: given[name] for name in unknown}, **own}


def run(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The result of a command that ends by itself; ``python`` is this one."""
    words = [sys.executable if word == "python" else word for word in command]
    return subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


@contextmanager
def container(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Iterator[Service]:
    """A command that serves, once it is ready; it is killed at the end if it still runs."""
    words = [sys.executable if word == "python" else word for word in command]
    log = folder / "container.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(words, cwd=ROOT, env=environ, stdout=sink, stderr=sink, start_new_session=True)
    service = Service(process, int(environ["PLUMBLINE__SERVER__PORT"]), log)
    try:
        service.wait_ready()
        yield service
    finally:
        process.kill()
        process.wait()


def get(service: Service, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """The status and the body of a GET with these headers."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
