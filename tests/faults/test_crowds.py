"""Many clients, clients that send without end, and one bad row among good ones."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import select
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.load.driver import read_answer
from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.load import live_row, numbered, predict_requests, quick_settings, stored_in_sqlite
from tests.support.processes import Service, resident_bytes, serving
from tests.support.raw_client import connect, post, replies

pytestmark = pytest.mark.fault
CONNECTIONS = 9_000
SEND_BYTES = 256 * 2**20
SPARE = 5
REFUSE_POISON = """
    CREATE TRIGGER poison BEFORE INSERT ON predictions WHEN NEW.prediction_id = 'poison'
    BEGIN SELECT RAISE(ABORT, 'poison'); END
"""


def processor_s(process: Path) -> float:
    """The processor time of a process and of its threads."""
    fields = (process / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answered(service: Service, *asked: Any) -> int:
    """The status of an answer on a new connection; 0 where there is none."""
    try:
        return service.call(*asked)[0]
    except OSError:
        return 0


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process and its children have as many open files as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def read_to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the other side closes the connection; TimeoutError where it stays open."""
    parts = []
    with suppress(ConnectionResetError):  # closed upon what we had sent and nobody read
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def pour(service: Service, head: str, piece: bytes) -> bytes:
    """Send a head, then one piece again and again until the service has had enough; what it answered before the end."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=DEADLINE_S) as connection:
        fixed = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{fixed}{head}\r\n".encode())
        for _ in range(0, SEND_BYTES, len(piece)):
            if select.select([connection], [], [], 0)[0]:
                return read_to_the_end(connection)
            with suppress(ConnectionError):  # the answer and the end may come between the look and this
                connection.sendall(piece)
    raise AssertionError("the service reads for ever")


@pytest.mark.parametrize("head", [f"Content-Length: {2**30}\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_body_without_end_costs_nothing(tmp_path: Path, example_models: Path, head: str) -> None:
    """A body beyond the limit is answered with 413, announced or not, and the connection closed.

    Memory stays flat and others are served.
    """
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n" if "chunked" in head else b" " * 65536
    settings = quick_settings(SERVER__RECEIVE_TIMEOUT="1s")
    with serving(tmp_path, models=example_models, settings=settings) as service:
        before = resident_bytes(service)
        answers = [pour(service, head, piece) for _ in range(6)]
        grown = resident_bytes(service) - before
        status, stored = service.call("POST", "/predict", {"features": live_row(example_models)})

    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 413 Request Entity Too Large"}
    assert grown < 32 * 2**20
    assert status == 200
    assert stored_in_sqlite(tmp_path / "plumbline.db") == {stored["prediction_id"]}


@pytest.mark.usefixtures("many_files")
def test_thousands_of_connections_are_served(tmp_path: Path, example_models: Path) -> None:
    """Of 9,000 connections that are open at once, each gets two predictions, all are answered and all are stored."""
    build = predict_requests(example_models)
    ids = numbered("crowd")

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[str]:
        acknowledged = []
        for identity in (next(ids), next(ids)):
            writer.write(build(identity))
            if await read_answer(reader) == 200:
                acknowledged.append(identity)
        return acknowledged

    async def scenario(port: int) -> list[str]:
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
        answered = await asyncio.gather(*(twice(*connection) for connection in connections))
        for _, writer in connections:
            writer.close()
        return [identity for acknowledged in answered for identity in acknowledged]

    limits = {"LIMITS__CONNECTIONS": str(2 * CONNECTIONS)}
    patient = quick_settings(SERVER__RECEIVE_TIMEOUT="1h", SERVER__DEADLINE="1h", **limits)
    with serving(tmp_path, models=example_models, settings=patient) as service:
        acknowledged = asyncio.run(scenario(service.port))

    assert len(acknowledged) == 2 * CONNECTIONS
    assert set(acknowledged) - stored_in_sqlite(tmp_path / "plumbline.db") == set()


def test_the_last_descriptor_is_not_the_end(tmp_path: Path, example_models: Path) -> None:
    """Without a descriptor for one more connection a busy one goes on, and the log and a metric tell of it.

    Room is made among those that say nothing, no time is spent in vain, and all is as before once they have gone.
    """
    body = {"features": live_row(example_models)}
    request = post(json.dumps(body).encode())
    with serving(tmp_path, models=example_models, settings=quick_settings()) as service, connect(service) as busy:

        def goes_on() -> bool:
            busy.sendall(request)
            return replies(busy, 1)[0].status == 200

        assert goes_on()
        place = Path(f"/proc/{service.process.pid}")
        used = len(list((place / "fd").iterdir()))
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (used + SPARE, used + SPARE))
        crowd = [socket.create_connection(("127.0.0.1", service.port), timeout=DEADLINE_S) for _ in range(20 * SPARE)]
        began, spent = time.monotonic(), processor_s(place)
        wait_until(lambda: goes_on() and "connections_refused" in service.log.read_text("utf-8"))
        wait_until(lambda: answered(service, "GET", "/health/ready") == 200)
        assert processor_s(place) - spent < 0.5 + (time.monotonic() - began) / 2
        for connection in crowd:
            connection.close()
        wait_until(lambda: answered(service, "POST", "/predict", body) == 200)
        with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics", timeout=DEADLINE_S) as answer:
            refused = re.search(r'refused_total\{reason="descriptors"\} (\S+)', answer.read().decode())

    assert refused is not None
    assert float(refused[1]) > 0


@pytest.mark.parametrize(("poison", "status"), [("nul\0", 422), ("poison", 500)])
def test_one_bad_row_fails_alone(tmp_path: Path, example_models: Path, poison: str, status: int) -> None:
    """Among 63 good requests at one moment, the one that is invalid, or that the database refuses, fails alone."""
    row = live_row(example_models)
    ids = [f"good-{number}" for number in range(63)]
    ids.insert(31, poison)

    async def scenario(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as client:
            bodies = [json.dumps({"features": row, "prediction_id": identity}) for identity in ids]
            headers = {"Content-Type": "application/json"}
            sending = (client.post("/predict", content=body, headers=headers) for body in bodies)
            return [answer.status_code for answer in await asyncio.gather(*sending)]

    with serving(tmp_path, models=example_models, settings=quick_settings()) as service:
        with closing(sqlite3.connect(tmp_path / "plumbline.db")) as connection:
            connection.execute(REFUSE_POISON)
        statuses = asyncio.run(scenario(f"http://127.0.0.1:{service.port}"))
    stored = stored_in_sqlite(tmp_path / "plumbline.db")

    assert dict(zip(ids, statuses, strict=True)) == dict.fromkeys(ids, 200) | {poison: status}
    assert stored == set(ids) - {poison}
