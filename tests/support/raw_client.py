"""A client that speaks HTTP to a running service byte by byte."""

from __future__ import annotations

import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple

from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.processes import Service

BODY = b'{"features": [0.1, 0.2, 0.3]}'
LIVE = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Reply(NamedTuple):
    """One answer; ``headers`` by their names in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


def post(
    body: bytes = BODY, *headers: bytes, target: bytes = b"/predict", version: bytes = b"1.1", sized: bool = True
) -> bytes:
    """A POST with a JSON body, whose length it names if it is ``sized``."""
    length = (b"content-length: %d" % len(body),) if sized else ()
    head = (
        b"POST %b HTTP/%b" % (target, version),
        b"host: localhost",
        b"content-type: application/json",
        *length,
        *headers,
    )
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def connect(service: Service) -> closing[socket.socket]:
    """A connection that waits for answers until the deadline."""
    return closing(socket.create_connection(("127.0.0.1", service.port), timeout=DEADLINE_S))


def replies(connection: socket.socket, number: int) -> list[Reply]:
    """So many answers of a connection, in the order in which they come; provisional ones are passed over."""
    with connection.makefile("rb") as stream:
        found: list[Reply] = []
        while len(found) < number:
            status = int(stream.readline().split()[1])
            lines = iter(lambda: stream.readline().decode().rstrip("\r\n"), "")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            if status >= 200:
                found.append(Reply(status, headers, stream.read(int(headers["content-length"]))))
        return found


def is_ended(connection: socket.socket, seconds: float = 0.2) -> bool:
    """Whether the other side ends the connection within so many seconds, and has nothing more to say."""
    before = connection.gettimeout()
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    finally:
        connection.settimeout(before)


@contextmanager
def store_held(service: Service) -> Iterator[None]:
    """While the block runs nothing is committed: another connection to the SQLite file has the lock for writing."""
    with closing(sqlite3.connect(service.log.parent / "plumbline.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def wait_for(service: Service, name: str, value: float) -> None:
    """Wait until a metric without labels has this value."""
    wait_until(lambda: _sample(service, name) == value, lambda: f"{name} is {_sample(service, name)}")


def _sample(service: Service, name: str) -> float:
    with connect(service) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])
