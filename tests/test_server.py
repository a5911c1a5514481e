"""The real server on a real port: clients that do not finish are let go, and SIGTERM is a clean end."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fitted import Fitted
from tests.servers import Service, serving

SECONDS = 0.5
BODY = b'{"features": [0.1, 0.2, 0.3]}'
HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> Iterator[Service]:
    """A service that gives a request half a second to arrive."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__RECEIVE_TIMEOUT": f"{SECONDS * 1000:g}ms"}
    with serving(tmp_path_factory.mktemp("server"), models=small_models[0], settings=settings) as running:
        yield running


def connect(service: Service) -> closing[socket.socket]:
    """A connection that waits ten seconds at most."""
    return closing(socket.create_connection(("127.0.0.1", service.port), timeout=10))


def let_go(connection: socket.socket) -> float:
    """Seconds until the other side ends the connection, whatever it sends before."""
    started = time.monotonic()
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", HEAD[:30], HEAD[:-2], HEAD + BODY[:10], HEAD + BODY + HEAD[:30], HEAD + BODY + HEAD + BODY[:10]],
    ids=[
        "silence",
        "an empty line",
        "half a line",
        "half a head",
        "half a body",
        "a half second request",
        "a second half body",
    ],
)
def test_half_a_request_is_let_go(service: Service, sent: bytes) -> None:
    """A client that does not finish its request within ``server.receive_timeout`` is disconnected."""
    with connect(service) as connection:
        connection.sendall(sent)

        assert let_go(connection) < SECONDS * 8


def test_a_slow_trickle_is_let_go(service: Service) -> None:
    """A byte now and then does not stop the clock."""
    with connect(service) as connection:
        connection.sendall(HEAD)
        connection.settimeout(SECONDS / 10)
        started = time.monotonic()
        gone = False
        while not gone and time.monotonic() - started < 10:
            try:
                connection.sendall(b" ")
                gone = connection.recv(65536) == b""
            except TimeoutError:
                continue
            except OSError:
                gone = True

        assert gone
        assert time.monotonic() - started < SECONDS * 8


def test_a_quiet_connection_between_requests_stays(service: Service) -> None:
    """Keep-alive: a client may think between two requests for longer than a request may take to arrive."""
    with connect(service) as connection:
        for _ in range(2):
            connection.sendall(HEAD + BODY)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            connection.settimeout(SECONDS * 2)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(10)


def test_sigterm_is_a_clean_end(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """SIGTERM and SIGINT end the process with code 0 and no traceback; what was answered is in the store."""
    for number, ending in enumerate((signal.SIGTERM, signal.SIGINT)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with serving(folder, models=small_models[0], settings={"SERVING__ACTIVE": "text"}) as service:
            assert service.call("POST", "/predict", {"features": [0.1, 0.2, 0.3]})[0] == 200
            assert service.end(ending) == 0
        assert "Traceback" not in service.log.read_text(encoding="utf-8")
