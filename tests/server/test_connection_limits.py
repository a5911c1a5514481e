"""Limits over all connections: whoever takes too much is refused, and a neighbour is still served."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from app.config.fields import Limits
from app.server.server import MAX_BODIES_BYTES, SMALL_BODY_BYTES, MemoryBudget, usable_connections
from tests.support.connections import Scene
from tests.support.deadlines import wait_until
from tests.support.models.tasks import Fitted
from tests.support.processes import Service, serving
from tests.support.raw_client import LIVE, connect, is_ended, post, replies, store_held, wait_for

MOST = 8
PER_ADDRESS = 5


@pytest.fixture(scope="module")
def crowded(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> Iterator[Service]:
    """A service for few connections, from loopback as many as there is room for."""
    settings = {"SERVING__ACTIVE": "text", "LIMITS__CONNECTIONS": str(MOST)}
    with serving(tmp_path_factory.mktemp("crowded"), models=small_models[0], settings=settings) as running:
        yield running


def ask(connection: socket.socket, request: bytes = LIVE) -> int:
    """The status of one answer."""
    connection.sendall(request)
    return replies(connection, 1)[0].status


def ask_anew(service: Service) -> int:
    """The status of one answer on a new connection."""
    with connect(service) as connection:
        return ask(connection)


@pytest.mark.parametrize("sent", [b"", post()[:40], post()[:-5]], ids=["idle", "half head", "half body"])
def test_the_oldest_connection_that_waits_for_its_peer_makes_room(crowded: Service, sent: bytes) -> None:
    """As many as there is room for, and one more: that one is answered, and somebody who says nothing is let go."""
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(crowded)) for _ in range(MOST)]
        for connection in crowd:
            connection.sendall(sent)
        with connect(crowded) as late:
            assert [ask(late), ask(late, post())] == [200, 200]
            wait_until(lambda: any(is_ended(connection, 0.01) for connection in crowd))


def test_a_crowd_whose_requests_are_answered_is_not_disturbed(crowded: Service) -> None:
    """Where everybody waits for an answer, one more gets 503 with a time, and all others their answers."""
    with ExitStack() as stack:
        with store_held(crowded):
            crowd = [stack.enter_context(connect(crowded)) for _ in range(MOST)]
            for connection in crowd:
                connection.sendall(post(target=b"/predict?"))
            log = crowded.log
            with connect(crowded) as late:
                refusal = replies(late, 1)[0]
                assert (refusal.status, refusal.headers["retry-after"]) == (503, "1")
                assert is_ended(late, 5)
        assert [replies(connection, 1)[0].status for connection in crowd] == [200] * MOST
    wait_until(lambda: "connections_refused" in log.read_text(encoding="utf-8"))


def test_an_address_has_a_limit_of_its_own(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """It holds for loopback where it is not the default; who leaves makes room."""
    settings = {"SERVING__ACTIVE": "text", "LIMITS__CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS)}
    with serving(tmp_path, models=small_models[0], settings=settings) as service, ExitStack() as stack:
        crowd = [stack.enter_context(connect(service)) for _ in range(PER_ADDRESS)]
        assert [ask(connection) for connection in crowd] == [200] * PER_ADDRESS
        for _ in range(3):
            with connect(service) as late:
                assert replies(late, 1)[0].status == 503
        crowd[0].close()
        wait_until(lambda: ask_anew(service) == 200)
        wait_for(service, 'ml_connections_refused_total{reason="connections"}', 0)
        wait_for(service, "ml_connections_open", PER_ADDRESS)  # the scrape itself has the free place
        assert sum(line.get("event") == "connections_refused" for line in service.lines()) <= 1


def test_a_peer_that_takes_nothing_is_let_go(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Once its buffers are full and nothing goes out for ``server.receive_timeout``, its connection ends."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__RECEIVE_TIMEOUT": "1s"}
    with (
        serving(tmp_path, models=small_models[0], settings=settings) as service,
        closing(socket.socket()) as stuck,
    ):
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", service.port))
        stuck.sendall(LIVE.replace(b"/health/live", b"/metrics") * 2000)
        wait_for(service, "ml_connections_open", 2)
        wait_for(service, "ml_connections_open", 1)


def test_the_limit_of_loopback_is_a_choice() -> None:
    """A proxy on the same machine is one address for all, so the default does not hold for it."""
    assert Limits().loopback_connections is None
    assert Limits(connections_per_address=7).loopback_connections == 7


def test_descriptors_bound_the_connections() -> None:
    """More connections than descriptors are never let in; the highest that is used stays below the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert usable_connections(Limits(connections=10)) == (10, 256 - 32)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
        few, _ = usable_connections(Limits(connections=300))
        assert few == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 428
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_large_bodies_leave_room_for_small_ones() -> None:
    """A quarter of the memory is for bodies that are soon here; what is released can be taken again."""
    budget = MemoryBudget(MAX_BODIES_BYTES)
    size = 2**20
    taken = sum(budget.take(size, size) for _ in range(100))
    assert taken * size == MAX_BODIES_BYTES * 3 // 4
    assert budget.take(SMALL_BODY_BYTES, SMALL_BODY_BYTES)
    budget.release(taken * size)
    assert budget.take(size, size)


def test_unfinished_bodies_share_their_memory(scene: Scene) -> None:
    """Where it is used up, another body is refused by its head, small requests are answered, and it comes back."""

    async def meet() -> list[int]:
        size = 90_000
        wires = [scene.connect() for _ in range(MAX_BODIES_BYTES // size)]
        head = post(b"x" * size)[:-size]
        for wire in wires:
            wire.packet(head)
        refused = [reply.status for wire in wires for reply in await wire.settled_replies()]
        assert set(refused) == {503}
        assert len(wires) * 3 // 4 - 2 <= len(wires) - len(refused) <= len(wires) * 3 // 4 + 2
        small = scene.connect()
        small.packet(post())
        found = [reply.status for reply in await small.replies(1)]
        for wire in wires:
            wire.leave()
        small.packet(head)
        small.packet(b"x" * size)
        return [*found, *[reply.status for reply in await small.replies(1)]]

    assert scene.run(meet()) == [200, 422]
