"""The fast path answers as ASGI does, in turn, and whoever leaves or lingers harms nobody else."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import pytest

from app.server.fast_path import KEEP_ALIVE_S
from tests.support.connections import Scene
from tests.support.deadlines import wait_until
from tests.support.http.callers import held
from tests.support.models.tasks import Fitted
from tests.support.processes import Service, serving
from tests.support.raw_client import BODY, LIVE, connect, is_ended, post, replies, store_held, wait_for

SECONDS = 1.0
MOST_BYTES = 100_000
KNOWN = b'{"features": [0.1, 0.2, 0.3], "prediction_id": "known"}'
CHUNKED = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, KNOWN[:5], len(KNOWN) - 5, KNOWN[5:])


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> Iterator[Service]:
    """A service that knows the prediction ``known``."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__MAX_BODY_BYTES": str(MOST_BYTES)}
    with serving(tmp_path_factory.mktemp("protocol"), models=small_models[0], settings=settings) as running:
        assert running.call("POST", "/predict", json.loads(KNOWN))[0] == 200
        yield running


@pytest.mark.parametrize(
    ("request_", "stays"),
    [
        (post(KNOWN, target=b"/predict?model_version=1"), True),
        (post(KNOWN, target=b"/pre%64ict"), True),
        (post(KNOWN, target=b"http://localhost/predict"), True),
        (post(CHUNKED, b"transfer-encoding: chunked", sized=False), True),
        (post(KNOWN, b"expect: 100-continue"), True),
        (post(KNOWN, b"connection: close"), False),
        (post(KNOWN, version=b"1.0"), False),
    ],
    ids=["query", "escaped", "absolute", "chunked", "expect", "close", "HTTP 1.0"],
)
def test_both_paths_give_one_answer(service: Service, request_: bytes, *, stays: bool) -> None:
    """What is left to ASGI has the same status, headers and body; a caller that asks for an end gets it."""
    with connect(service) as connection:
        connection.sendall(post(KNOWN, b"x-request-id: r"))
        fast = replies(connection, 1)[0]
        connection.sendall(request_.replace(b"\r\n", b"\r\nx-request-id: r\r\n", 1))
        other = replies(connection, 1)[0]

        assert other.headers.pop("connection", None) == (None if stays else "close")
        assert other == fast
        assert is_ended(connection) is not stays


@pytest.mark.parametrize(
    "request_",
    [
        post(b""),
        post(b"{"),
        post(b'{"features": [0.1, "two", 0.3]}'),
        post(KNOWN).replace(b"json", b"xml"),
        post(gzip.compress(KNOWN), b"content-encoding: gzip"),
        post(b'{"prediction_id": "nobody", "outcome": "yes"}', target=b"/outcome"),
    ],
    ids=["empty", "no JSON", "invalid", "no JSON type", "gzip", "unknown"],
)
def test_refusals_are_alike(service: Service, request_: bytes) -> None:
    """On both paths a body has one answer, and the connection goes on."""
    named = request_.replace(b"\r\n", b"\r\nx-request-id: r\r\n", 1)
    with connect(service) as connection:
        connection.sendall(named)
        fast = replies(connection, 1)
        connection.sendall(named.replace(b" HTTP", b"? HTTP", 1) + post(KNOWN))

        other, next_ = replies(connection, 2)
        assert [other] == fast
        assert next_.status == 200


@pytest.mark.parametrize("order", ["hhh", "hc", "ch", "hchhc", "cchh"])
def test_requests_in_one_packet_are_answered_in_turn(service: Service, order: str) -> None:
    """Whichever way each of them takes (hot, cold), answers come in the order of the requests."""
    kinds = {"h": post(), "c": LIVE}
    named = [kinds[kind].replace(b"\r\n", b"\r\nx-request-id: %d\r\n" % place, 1) for place, kind in enumerate(order)]
    with connect(service) as connection:
        connection.sendall(b"".join(named))

        found = replies(connection, len(order))
        assert [int(reply.headers["x-request-id"]) for reply in found] == list(range(len(order)))
        assert [b"live" in reply.body for reply in found] == [kind == "c" for kind in order]


def test_a_repeated_head_is_read_as_the_first_time(service: Service) -> None:
    """With other bodies of its length, an empty line in the body, another method, in parts, behind another request."""
    bodies = [
        b'{"features": [0.1, 0.2, 0.3]}  ',
        b'{"features":\r\n\r\n[0.1, 0.2, 0.3]}',
        b'{"features": [0.1, 0.2, 0.3] ]',
    ]
    good, spaced, bad = (post(body.ljust(40)) for body in bodies)
    with connect(service) as connection:
        for request, status in [(good, 200), (good, 200), (spaced, 200), (bad, 422)]:
            connection.sendall(request)
            assert [reply.status for reply in replies(connection, 1)] == [status]
        for cut in (1, 4, 40, good.index(b"{"), good.index(b"{") - 2, len(good) - 1):
            connection.sendall(spaced + good[:cut])
            assert [reply.status for reply in replies(connection, 1)] == [200]
            connection.sendall(good[cut:])
            assert [reply.status for reply in replies(connection, 1)] == [200]
        connection.sendall(good + bad + good + b"GET" + good[4:] + good)
        assert [reply.status for reply in replies(connection, 5)] == [200, 422, 200, 405, 200]


def test_a_crowd_gets_its_own_answers(service: Service) -> None:
    """Hundreds of connections at once, three times: to each what was said to its own row."""
    rows = [[step / 100, 0.2, -0.3] for step in range(300)]
    status, expected = service.call("POST", "/predict", {"instances": rows})
    assert status == 200
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(service)) for _ in rows]
        for _ in range(3):
            for connection, row in zip(crowd, rows, strict=True):
                connection.sendall(post(json.dumps({"features": row}).encode()))
            found = [json.loads(replies(connection, 1)[0].body) for connection in crowd]
            told = [answer["probabilities"] for answer in found]
            assert told == [pytest.approx(answer["probabilities"], abs=1e-6) for answer in expected["predictions"]]
            assert len({answer["prediction_id"] for answer in found}) == len(rows)


def test_the_log_names_the_path_of_its_own_request(service: Service) -> None:
    """The target of the next request in the packet, which is a client's text, stays out of the log."""
    with connect(service) as connection:
        connection.sendall(post(b"{}", b"x-request-id: first") + b'GET /"evil HTTP/1.1\r\nhost: localhost\r\n\r\n')
        replies(connection, 2)
    wait_until(lambda: any(line.get("request_id") == "first" for line in service.lines()), service.lines)

    assert [line["route"] for line in service.lines() if line.get("request_id") == "first"] == ["/predict"]


@pytest.mark.parametrize("rest", [b"", post(), LIVE, post()[:30]], ids=["alone", "hot", "cold", "part"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_caller_that_leaves_harms_nobody(service: Service, rest: bytes, *, reset: bool) -> None:
    """A connection that ends while its request is answered leaves nothing behind."""
    with store_held(service), connect(service) as connection:
        connection.sendall(post() + rest)
        wait_for(service, "ml_journal_queue_rows", 1)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    wait_for(service, "ml_requests_in_progress", 1)  # the scrape itself
    wait_for(service, "ml_journal_queue_rows", 0)


def test_who_is_not_listened_to_is_not_late(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """The rest of a second request may wait for the first one's answer for longer than a request may take to arrive."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__RECEIVE_TIMEOUT": f"{SECONDS:g}s"}
    with serving(tmp_path, models=small_models[0], settings=settings) as service, connect(service) as connection:
        with store_held(service):
            connection.sendall(post() + post()[:-10])
            assert not is_ended(connection, SECONDS * 2)
            connection.sendall(post()[-10:])
        assert [reply.status for reply in replies(connection, 2)] == [200, 200]


def test_an_endless_head_is_refused(service: Service) -> None:
    """A client cannot fill the memory with headers, neither with its first request nor with a later one."""
    head = LIVE[:-2] + b"".join(b"x-%d: %b\r\n" % (number, b"y" * 60_000) for number in range(1000))
    for before in (b"", LIVE):
        with connect(service) as connection:
            connection.sendall(before)
            replies(connection, 1 if before else 0)
            with pytest.raises(OSError, match=r"reset|pipe"):
                connection.sendall(head)


def test_a_caller_may_end_its_side_first(service: Service) -> None:
    """It gets the answers to all that it has sent, on both paths, and then the end."""
    for data in (post() * 2, LIVE * 2, post() + LIVE):
        with store_held(service), connect(service) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            if data.startswith(b"POST"):
                wait_for(service, "ml_journal_queue_rows", 1)
            pending = connection.dup()
        with pending:
            assert [reply.status for reply in replies(pending, 2)] == [200, 200]
            assert is_ended(pending)


@pytest.mark.parametrize("next_", [post(), LIVE], ids=["plain", "special"])
def test_a_caller_is_not_listened_to_while_it_is_answered(scene: Scene, next_: bytes) -> None:
    """What it sends meanwhile waits in its own network buffers, not in our memory."""

    async def meet() -> list[bool]:
        wire = scene.connect()
        wire.packet(post())
        found = [wire.is_reading()]
        wire.packet(next_)
        found.append(wire.is_reading())
        await wire.replies(2)
        found.append(wire.is_reading())
        wire.leave()
        return found

    assert scene.run(meet()) == [True, False, True]


def test_the_time_behind_another_request_is_nobodys_fault(scene: Scene) -> None:
    """The rest of a request has its time from the moment on at which the one before it is answered."""

    async def meet() -> bool:
        wire, other = scene.connect(), scene.connect()
        started = perf_counter()
        with held(scene):
            wire.packet(post() + post()[:20])
            for _ in range(50):
                other.packet(LIVE)
                await other.replies(1)
        await wire.replies(1)
        now = perf_counter()
        late = wire.protocol.is_late(now, (now - started) / 2)
        for each in (wire, other):
            each.leave()
        return late

    assert not scene.run(meet())


def test_a_request_that_is_never_begun_ends_its_connection(scene: Scene) -> None:
    """Where the drain ends before the task of a request has run at all, its caller need not wait."""

    async def meet() -> tuple[int, bool]:
        wire = scene.connect()
        wire.packet(post(BODY))
        for task in scene.tasks:
            task.cancel()
        number = len(await wire.replies(1))
        is_ended = wire.is_closing()
        wire.leave()
        return number, is_ended

    assert scene.run(meet()) == (0, True)


@pytest.mark.parametrize("request_", [post(), LIVE], ids=["plain", "special"])
def test_a_caller_that_does_not_take_its_replies_gets_no_more(scene: Scene, request_: bytes) -> None:
    """Its next request begins once there is room for the reply."""

    async def meet() -> list[int]:
        wire = scene.connect()
        protocol = wire.protocol
        protocol.pause_writing()
        wire.packet(request_)
        await asyncio.sleep(0)
        assert not scene.tasks
        assert not wire.is_reading()
        assert not protocol.is_late(perf_counter() + 1000, 10)
        protocol.resume_writing()
        found = [reply.status for reply in await wire.replies(1)]
        wire.leave()
        return found

    assert scene.run(meet()) == [200]


def test_a_full_buffer_at_the_end_is_no_mistake(scene: Scene) -> None:
    """A connection that ends while its last replies are on their way goes on with nothing."""

    async def meet() -> bool:
        wire = scene.connect()
        wire.packet(post() + post()[:20])
        wire.protocol.pause_writing()
        await wire.replies(1)
        wire.close()
        wire.protocol.resume_writing()
        found = wire.is_reading() or bool(scene.tasks)
        wire.leave()
        return found

    assert not scene.run(meet())


@pytest.mark.parametrize(
    ("before", "after", "replies_", "ends_at_once"),
    [
        (b"", b"", [], True),
        (post()[:20], post()[20:], ["close"], False),
        (post(), b"", ["close"], False),
        (post() * 2, b"", [None, "close"], False),
        (post() + post()[:20], post()[20:], [None, "close"], False),
        (post() + LIVE, b"", [None, "close"], False),
        (LIVE[:20], LIVE[20:], ["close"], False),
        (LIVE * 2, b"", [None, "close"], False),
    ],
    ids=["idle", "half", "plain", "two", "one and a half", "plain and special", "half special", "two special"],
)
def test_a_shutdown_answers_what_has_begun(
    scene: Scene, before: bytes, after: bytes, replies_: list[str | None], *, ends_at_once: bool
) -> None:
    """The last reply says that the connection ends, and then it does."""

    async def meet() -> tuple[bool, list[str | None], bool]:
        wire = scene.connect()
        if before:
            wire.packet(before)
        wire.protocol.shutdown()
        at_once = wire.is_closing()
        await wire.packets([after] if after else [])
        found = [reply.headers.get("connection") for reply in await wire.replies(len(replies_))]
        is_ended = wire.is_closing()
        wire.leave()
        return at_once, found, is_ended

    assert scene.run(meet()) == (ends_at_once, replies_, True)


def test_lateness(scene: Scene) -> None:
    """The first request, and the rest of one, must come in time; between two a caller may think for longer."""

    async def meet() -> list[bool]:
        wire = scene.connect()
        late = wire.protocol.is_late
        found = [late(perf_counter() + seconds, 10) for seconds in (9, 11)]
        wire.packet(post()[:20])
        found += [late(perf_counter() + seconds, 10) for seconds in (9, 11)]
        wire.packet(post()[20:])
        found.append(late(perf_counter() + 1000, 10))
        await wire.replies(1)
        found += [late(perf_counter() + seconds, 10) for seconds in (11, KEEP_ALIVE_S + 1)]
        wire.leave()
        return found

    assert scene.run(meet()) == [False, True, False, True, False, False, True]


def test_a_lone_caller_waits_for_no_handed_over_connection(scene: Scene) -> None:
    """A group begins when all connections of the fast path have asked; a scraper's connection is none of them."""

    async def meet() -> bool:
        scraper, caller = scene.connect(), scene.connect()
        scraper.packet(LIVE)
        await scraper.replies(1)
        caller.packet(post())
        begun = bool(scene.tasks)
        await caller.replies(1)
        for wire in (scraper, caller):
            wire.leave()
        return begun

    assert scene.run(meet())
