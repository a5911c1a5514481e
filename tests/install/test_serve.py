"""`make run` says where the service answers and what to type next."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.install.checkouts import read_until
from tests.support.processes import ROOT, free_port


@pytest.fixture
def folder(tmp_path: Path, example_models: Path) -> Path:
    """A folder with the configuration and the example."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    shutil.copytree(example_models, tmp_path / "models")
    return tmp_path


def start(folder: Path, port: int, **settings: str) -> subprocess.Popen[bytes]:
    """`make run` without make, with its output in one pipe."""
    chosen = {"SERVER__PORT": str(port), **settings}
    environ = os.environ | {f"PLUMBLINE__{name}": value for name, value in chosen.items()} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "scripts.serve"]
    return subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_the_next_steps(folder: Path) -> None:
    """Once it answers, an address and a request are printed; the request is answered as it stands."""
    port = free_port()
    with start(folder, port) as process:
        printed = read_until(process, "Ctrl-C here stops it.")
        (request,) = re.findall(r"^  (curl .*)$", printed, re.MULTILINE)
        answer = json.loads(subprocess.run(["bash", "-c", request], check=True, capture_output=True).stdout)
        command = ("ps", "--ppid", str(process.pid), "-o", "stat=")
        children = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        process.send_signal(signal.SIGTERM)

    assert f"Plumbline answers at http://127.0.0.1:{port}, " in printed
    assert f"http://127.0.0.1:{port}/dashboard" in printed
    assert answer["prediction"] == "benign"
    assert "Z" not in children
    assert process.returncode == 0


def test_a_port_in_use(folder: Path) -> None:
    """The last line says so, with a command that takes another port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with start(folder, port) as process:
            printed = read_until(process, "never printed").splitlines()

    assert printed[-1].startswith(f"error: 127.0.0.1:{port}: Address already in use")
    assert printed[-1].endswith(f"PLUMBLINE__SERVER__PORT={port + 1} make run")
    assert process.returncode == 1


def test_a_service_that_does_not_start(folder: Path) -> None:
    """Its own last line is the cause, and nothing is printed after it."""
    with start(folder, free_port(), SERVING__ACTIVE="nothing") as process:
        process.wait()
        printed = read_until(process, "never printed").splitlines()

    assert printed[-1].startswith("error: models/nothing: no bundle here")
    assert process.returncode == 3
