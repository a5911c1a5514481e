"""Requests over ASGI: their bodies are read when the application asks, and within the same limits."""

from __future__ import annotations

import json
from time import perf_counter

import pytest
from prometheus_client import generate_latest
from sqlalchemy import Connection

from app.server.fast_path import KEEP_ALIVE_S
from app.server.http_head import MAX_HEAD_BYTES
from app.store.queries.predictions import stream
from tests.support.application import samples
from tests.support.connections import Scene
from tests.support.http.exchanges import without_ids
from tests.support.raw_client import BODY, LIVE, Reply, post

HEAD = post().removesuffix(BODY)
SLOW = post(target=b"/predict?")
"""A request for a hot endpoint that is no plain one."""


@pytest.mark.parametrize("rest", [LIVE[:20], HEAD, HEAD[:-3]], ids=["part of a head", "no body", "head without end"])
def test_half_a_request_is_late(scene: Scene, rest: bytes) -> None:
    """Also behind other requests on the connection, and no sooner than a request may take."""

    async def meet() -> list[bool]:
        wire = scene.connect()
        wire.packet(LIVE)
        await wire.replies(1)
        now = perf_counter()
        calm = wire.protocol.is_late(now + KEEP_ALIVE_S - 5, 10)
        wire.packet(rest)
        return [calm, wire.protocol.is_late(now + 9, 10), wire.protocol.is_late(perf_counter() + 11, 10)]

    assert scene.run(meet()) == [False, False, True]


CHUNKED = (
    b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
)


def test_an_endless_head_is_refused(scene: Scene) -> None:
    """With the first request of a connection, and behind others of both kinds."""

    async def meet(*before: bytes) -> list[Reply]:
        wire = scene.connect()
        for request in before:
            wire.packet(request)
            await wire.replies(1)
        await wire.packets([LIVE[:-2] + b"x: ", *[b"y" * 1000] * (MAX_HEAD_BYTES // 1000 + 3)])
        assert wire.is_closing()
        return [without_ids(reply) for reply in await wire.replies(1)]

    found = [scene.run(meet(*before)) for before in ([], [post()], [LIVE])]
    assert found[0] == found[1] == found[2]
    assert [(reply.status, b"too large" in reply.body) for reply in found[0]] == [(400, True)]


def test_trailers_are_dropped_and_bounded(scene: Scene) -> None:
    """Trailers without end are refused, and the connection ends."""

    async def meet(trailer: bytes, times: int) -> list[tuple[int, bool]]:
        wire = scene.connect()
        await wire.packets([CHUNKED, *[trailer] * times, b"\r\n"])
        found = [(reply.status, wire.is_closing()) for reply in await wire.settled_replies()]
        wire.leave()
        return found

    assert scene.run(meet(b"x-request-id: mine\r\n", 1)) == [(200, False)]
    assert scene.run(meet(b"x: " + b"y" * 1000 + b"\r\n", MAX_HEAD_BYTES // 1000 + 1)) == [(400, True)]


def test_nothing_is_read_of_a_body_that_nobody_wants(scene: Scene) -> None:
    """A request is refused by its head: the caller that waits for ``100 Continue`` never gets it."""

    async def meet(request: bytes) -> list[tuple[int, str | None]]:
        wire = scene.connect()
        wire.packet(request)
        found = [(reply.status, reply.headers.get("connection")) for reply in await wire.settled_replies()]
        wire.leave()
        return found

    large = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    for target, kind, size, status in [
        (b"/predict", b"application/json", 10**9, 413),
        (b"/predict", b"multipart/form-data", 70_000, 415),
        (b"/models/text/activate", b"application/json", 10**9, 413),
        (b"/models/text/activate", b"application/json", 70_000, 413),
        (b"/models/text/activate", b"text/plain", 70_000, 415),
        (b"/checks", b"application/json", 10**9, 413),
        (b"/alerts/1/acknowledge", b"multipart/form-data", 70_000, 415),
        (b"/nowhere", b"application/json", 10**9, 404),
        (b"/health/live", b"application/json", 10**9, 405),
    ]:
        assert scene.run(meet(large % (target, kind, size))) == [(status, "close")]
    for target, status in [(b"/models/text/activate", 415), (b"/alerts/1/acknowledge", 415), (b"/nowhere", 404)]:
        assert scene.run(meet(large % (target, b"multipart/form-data", 60_000))) == [(status, None)]
        chunked = (large % (target, b"text/plain", 0)).replace(b"content-length: 0", b"transfer-encoding: chunked")
        assert scene.run(meet(chunked)) == [(status, "close")]
    assert scene.run(meet(LIVE[:-2] + b"content-length: 1000000000\r\n\r\n")) == [(413, "close")]


async def half_close(scene: Scene, data: bytes, number: int) -> tuple[list[int], bool]:
    """The statuses of so many replies to a caller that sends nothing more, and whether its connection has ended."""
    wire = scene.connect()
    await wire.packets([data])
    await wire.end_input()
    found = [reply.status for reply in await wire.replies(number)]
    return found, wire.is_closing()


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (SLOW, [200]), (LIVE, [200]), (SLOW + LIVE, [200, 200]), (post() + LIVE, [200, 200]), (post() * 3, [200] * 3),
        (post() + HEAD, [200]), (b"", []), (HEAD, []), (LIVE[:20], []), (SLOW[:-1], []),
    ],
    ids=[
        "slow", "live", "two slow", "plain and slow", "plain", "plain and half", "nothing", "half", "half head",
        "half slow",
    ],
)  # fmt: skip
def test_a_caller_that_has_sent_everything_is_answered(scene: Scene, data: bytes, statuses: list[int]) -> None:
    """It may close its side and still read; the connection ends behind the answers, and half a request is none."""
    assert scene.run(half_close(scene, data, len(statuses))) == (statuses, True)


def test_both_paths_count_from_the_first_byte(scene: Scene) -> None:
    """The stored latency, the metric and the log of a request that came in two pieces include the time between them."""

    async def meet(request: bytes) -> tuple[float, str]:
        wire = scene.connect()
        started = perf_counter()
        wire.packet(request[:-1])
        for _ in range(20):  # takes longer than an answer
            other = scene.connect()
            other.packet(LIVE)
            await other.replies(1)
        between = perf_counter() - started
        wire.packet(request[-1:])
        return between, str(json.loads((await wire.replies(1))[0].body)["prediction_id"])

    def latencies(connection: Connection) -> dict[str, int]:
        return {row.prediction.prediction_id: row.prediction.latency_us for row in stream(connection)}

    def observed() -> float:
        found = samples(generate_latest(scene.app.state.services.series).decode())
        return sum(value for (name, _), value in found.items() if name == "ml_prediction_latency_seconds_sum")

    for request in (post(), SLOW, post(b'{"features": [0.1, 0.2, 0.3], "prediction_id": "clock"}')):
        before = observed()
        between, id_ = scene.run(meet(request))
        stored = scene.run(scene.app.state.services.readers.run(latencies))[id_]
        assert stored / 1e6 >= between
        assert observed() - before >= between
