"""Start the service in this process's place, and say where it answers once it does."""

from __future__ import annotations

import csv
import http.client
import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app.config.loader import load_config
from app.errors import ConfigError

if TYPE_CHECKING:
    from app.config.settings import Config

PATIENCE_S = 60.0
LOOK_EVERY_S = 0.05


def main() -> None:
    """Check that the port is free, leave a process behind that waits for the first answer, and serve."""
    with suppress(ConfigError):  # which the service itself explains
        config = load_config(Path("config.yaml"), os.environ)
        if config.server.port:  # 0 takes a free one, which the service's log names
            _check_port(config)
            if not sys.stdout.isatty():  # on a terminal the service says it itself
                _wait_apart(config, os.getpid())
    os.execv(Path(sys.executable).with_name("plumbline"), ["plumbline", "serve"])


def _check_port(config: Config) -> None:
    """End the program where another one listens on the port; the service would say so amid its log."""
    server = config.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host, server.port))
        except OSError as error:
            another = f"PLUMBLINE__SERVER__PORT={server.port + 1} make run"
            sys.exit(f"error: {server.host}:{server.port}: {error.strerror}; stop what listens there, or: {another}")


def _wait_apart(config: Config, service: int) -> None:
    """Wait for the service in a process that is nobody's child, so that the service has no child to reap."""
    started = time.monotonic()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if os.fork() == 0 and _answers(config, service):
            print(_next_steps(config, time.monotonic() - started), file=sys.stderr, flush=True)
    finally:
        os._exit(0)  # whatever happened, this process is not to become a second service


def _answers(config: Config, service: int) -> bool:
    """Whether the service is ready before it ends and before patience does."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        time.sleep(LOOK_EVERY_S)
        try:
            os.kill(service, 0)
        except ProcessLookupError:
            return False
        if is_ready(config.server.host, config.server.port):
            return True
    return False


def is_ready(host: str, port: int) -> bool:
    """Whether a service answers there that it is ready."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _next_steps(config: Config, seconds: float) -> str:
    """What a person can type and open now."""
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    address = f"http://{host}:{config.server.port}"
    lines = [f"\nPlumbline answers at {address}, {seconds:.1f} s after its start. Next, in another terminal:\n"]
    row = _live_row(config)
    if row is not None and not config.auth.keys:
        body = json.dumps({"features": row})
        lines.append(f"  curl -s {address}/predict -H 'content-type: application/json' -d '{body}'\n")
    lines.append(f"  {address}/dashboard watches it, {address}/docs describes it; Ctrl-C here stops it.\n")
    return "\n".join(lines)


def _live_row(config: Config) -> list[float | str | None] | None:
    """A row that the example's model never saw; None for a model that is no example."""
    model, _, version = config.serving.active.partition("/")
    for file in sorted((config.serving.models / model).glob(f"{version or '*'}/live.csv")):
        with file.open(encoding="utf-8", newline="") as rows:
            row = next(csv.DictReader(rows))
        return [_value(text) for name, text in row.items() if name != "outcome"]
    return None


def _value(text: str) -> float | str | None:
    """A cell as JSON has it."""
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return text or None


if __name__ == "__main__":
    main()
