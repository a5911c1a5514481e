"""Measure Plumbline against the floor and a plain endpoint, alternating, and write the table into README.md.

Each server has one core to itself and the load generator another, so that neither steals from the other.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.driver import drive, request_bytes
from benchmarks.table import Figures, Measured, render
from tests.servers import ROOT, free_port, launch

HERE = Path(__file__).parent
BUNDLE = ROOT / "models" / "breast_cancer" / "1"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->"
UVICORN = (
    "--loop",
    "uvloop",
    "--http",
    "httptools",
    "--no-access-log",
    "--log-level",
    "warning",
    "--host",
    "127.0.0.1",
)
SERVERS = {
    "floor": ("benchmarks.floor:app", "--lifespan", "off"),
    "plain": ("benchmarks.plain:create_app", "--factory"),
    "plumbline": (),
}
CONNECTIONS = (1, 64)
SERVER_CORE, LOAD_CORE = 0, 1


def main() -> None:
    """Run every server several times in turn and rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of every server, in turn")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement")
    parser.add_argument("--driver", action="store_true", help="load with driver.py even where wrk is installed")
    chosen = parser.parse_args()
    wrk = None if chosen.driver else shutil.which("wrk")
    measured = measure(chosen.runs, chosen.seconds, wrk)
    method = (
        f"medians of {chosen.runs} alternating runs of {chosen.seconds:g} s, load from {'wrk' if wrk else 'driver.py'}"
    )
    text = render(measured, method=method, now=datetime.now(UTC))
    readme = HERE / "README.md"
    head, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(head + BEGIN + text + END + rest.split(END)[1], encoding="utf-8")
    print(text)


def measure(runs: int, seconds: float, wrk: str | None) -> Measured:
    """Figures of each run by (server, connections); the servers take turns, so that a slow minute hits all alike."""
    measured: Measured = {key: [] for key in itertools.product(SERVERS, CONNECTIONS)}
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.json"
        body.write_bytes(example_body())
        _pin(os.getpid(), LOAD_CORE)
        for run, name in itertools.product(range(runs), SERVERS):
            with _server(name, Path(folder)) as port:
                _load(port, body, max(CONNECTIONS), 1.0, wrk)
                for connections in CONNECTIONS:
                    figures = _load(port, body, connections, seconds, wrk)
                    measured[name, connections].append(figures)
                    print(f"run {run + 1}  {name:9}  {connections:3} connections  {figures.rate:8.0f}/s")
    return measured


def example_body() -> bytes:
    """A `/predict` body with the first live row of the example; the id is left to the service."""
    with (BUNDLE / "live.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    return json.dumps({"features": {name: float(value) for name, value in row.items() if name != "outcome"}}).encode()


@contextmanager
def _server(name: str, folder: Path) -> Iterator[int]:
    """A fresh server process on its core; gives its port once it listens."""
    if name == "plumbline":
        with tempfile.TemporaryDirectory(dir=folder) as store:
            service = launch(Path(store), models=BUNDLE.parents[1])
            _pin(service.process.pid, SERVER_CORE)
            try:
                service.wait_ready()
                yield service.port
            finally:
                service.process.kill()
                service.process.wait()
        return
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", *SERVERS[name], *UVICORN, "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        _pin(process.pid, SERVER_CORE)
        try:
            _wait_listening(port)
            yield port
        finally:
            process.kill()


def _wait_listening(port: int) -> None:
    for _ in range(200):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def _load(port: int, body: Path, connections: int, seconds: float, wrk: str | None) -> Figures:
    if wrk is None:
        request = request_bytes("/predict", body.read_bytes())
        load = asyncio.run(
            drive(port, itertools.repeat(""), lambda _: request, connections=connections, seconds=seconds)
        )
        failed = load.statuses.total() - load.statuses[200]
        return Figures(load.rate, load.quantile(0.5) * 1e3, load.quantile(0.99) * 1e3, failed)
    options = (
        f"-c{connections}",
        "-t1",
        f"-d{max(round(seconds), 1)}s",
        "--timeout",
        "10s",
        "-s",
        str(HERE / "post.lua"),
    )
    output = subprocess.run(
        [wrk, *options, f"http://127.0.0.1:{port}/predict", "--", str(body)], check=True, capture_output=True, text=True
    ).stdout
    return Figures(**json.loads(output.split("RESULT ")[1]))


def _pin(pid: int, core: int) -> None:
    """Keep a process on one core where the system can and has cores to share out."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


if __name__ == "__main__":
    main()
