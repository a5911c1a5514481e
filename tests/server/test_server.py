"""The real server on a real port: clients that do not finish are let go, and SIGTERM is a clean end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import perf_counter

import pytest
from prometheus_client import CollectorRegistry

from app.metrics import ConnectionMetrics
from app.server.fast_path import KEEP_ALIVE_S
from app.server.server import BEAT_S, StallMeter
from tests.support.deadlines import DEADLINE_S, until, wait_until
from tests.support.models.tasks import Fitted
from tests.support.processes import Service, serving
from tests.support.raw_client import BODY, LIVE, connect, is_ended, post, replies, store_held, wait_for

SECONDS = 1.0
LET_GO_S = KEEP_ALIVE_S - 5
"""Longest wait for the end of a connection that would otherwise end for being idle."""
HEAD = post().removesuffix(BODY)


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> Iterator[Service]:
    """A service that gives a request a second to arrive."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__RECEIVE_TIMEOUT": f"{SECONDS * 1000:g}ms"}
    with serving(tmp_path_factory.mktemp("server"), models=small_models[0], settings=settings) as running:
        yield running


def test_a_stall_of_the_event_loop_is_measured() -> None:
    """While the loop is held it serves nobody; the meter sees that time, up to the interval of its timer."""
    registry = CollectorRegistry()

    async def hold(seconds: float) -> None:
        meter = StallMeter(ConnectionMetrics(registry))
        meter.start(asyncio.get_running_loop())
        held_until = perf_counter() + seconds
        while perf_counter() < held_until:
            pass
        await until(lambda: registry.get_sample_value("ml_event_loop_stall_seconds_count"))
        meter.stop()

    asyncio.run(hold(2 * BEAT_S))

    assert (registry.get_sample_value("ml_event_loop_stall_seconds_sum") or 0.0) >= BEAT_S


def wait_let_go(connection: socket.socket, sent: bytes = b"") -> None:
    """Send something, and wait until the other side ends the connection, whatever it answers before."""
    connection.settimeout(LET_GO_S)
    with suppress(ConnectionError):
        connection.sendall(sent)
        while connection.recv(65536):
            pass


@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", HEAD[:30], HEAD[:-2], HEAD + BODY[:10], HEAD + BODY + HEAD[:30], HEAD + BODY + HEAD + BODY[:10]],
    ids=["silence", "empty line", "half a line", "half a head", "half a body", "half a second", "second half body"],
)
def test_half_a_request_is_let_go(service: Service, sent: bytes) -> None:
    """A client that does not finish its request within ``server.receive_timeout`` is disconnected."""
    with connect(service) as connection:
        wait_let_go(connection, sent)


def test_a_slow_trickle_is_let_go(service: Service) -> None:
    """A byte now and then does not stop the clock."""
    with connect(service) as connection:
        connection.sendall(HEAD)
        connection.settimeout(SECONDS / 10)

        def is_gone() -> bool:
            try:
                connection.sendall(b" ")
                return connection.recv(65536) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(is_gone)


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
            connection.settimeout(DEADLINE_S)


def test_sigterm_is_a_clean_end(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """SIGTERM and SIGINT end the process with code 0 and no traceback; what was answered is in the store."""
    for number, ending in enumerate((signal.SIGTERM, signal.SIGINT)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with serving(folder, models=small_models[0], settings={"SERVING__ACTIVE": "text"}) as service:
            assert service.call("POST", "/predict", {"features": [0.1, 0.2, 0.3]})[0] == 200
            assert service.end(ending) == 0
        assert "Traceback" not in service.log.read_text(encoding="utf-8")


def test_sigterm_answers_what_is_in_flight(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Requests that wait for the store when SIGTERM comes are answered, those behind them in the packet too."""
    sent = [(post(), 1), (post() * 2, 2), (post() + LIVE, 2)]
    with (
        serving(tmp_path, models=small_models[0], settings={"SERVING__ACTIVE": "text"}) as service,
        ExitStack() as stack,
    ):
        connections = [stack.enter_context(connect(service)) for _ in sent]
        with store_held(service):
            for connection, (requests, _) in zip(connections, sent, strict=True):
                connection.sendall(requests)
            wait_for(service, "ml_journal_queue_rows", len(sent))
            service.process.send_signal(signal.SIGTERM)
            assert not is_ended(connections[0])

        for connection, (_, number) in zip(connections, sent, strict=True):
            answered = replies(connection, number)
            assert [reply.status for reply in answered] == [200] * number
            assert [reply.headers.get("connection") for reply in answered] == [*[None] * (number - 1), "close"]
        assert service.process.wait(DEADLINE_S) == 0


def test_half_a_request_does_not_delay_the_end(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """After SIGTERM too, a client is let go that does not finish its request; then the process ends."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__RECEIVE_TIMEOUT": "1s", "SERVER__DRAIN_TIMEOUT": "1h"}
    with serving(tmp_path, models=small_models[0], settings=settings) as service, connect(service) as half:
        half.sendall(HEAD + BODY[:10])
        for _ in range(2):  # the service reads its sockets in turn: once it answers a later one twice, it has the half
            service.call("GET", "/health/live")

        assert service.end(signal.SIGTERM) == 0


def test_sigterm_waits_only_so_long(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Who is not answered when the drain is over gets a 503, both ways."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__DRAIN_TIMEOUT": "1s"}
    with (
        serving(tmp_path, models=small_models[0], settings=settings) as service,
        connect(service) as fast,
        connect(service) as other,
        store_held(service),
    ):
        fast.sendall(post())
        other.sendall(post(target=b"/predict?"))
        wait_for(service, "ml_journal_queue_rows", 2)
        service.process.send_signal(signal.SIGTERM)

        for connection in (fast, other):
            answered = replies(connection, 1)[0]
            assert answered.status == 503
            assert answered.headers["retry-after"]
