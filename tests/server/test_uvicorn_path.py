"""uvicorn's protocol behind the fast path: what the watch adds to it, and what it owes us."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import math
from time import perf_counter

import pytest
from prometheus_client import generate_latest
from sqlalchemy import Connection

from app.server import uvicorn_path
from app.server.http_connection import MAX_HEAD_BYTES
from app.server.uvicorn_path import RequestWatch
from app.store.queries.predictions import stream
from tests.support.application import samples
from tests.support.connections import Scene
from tests.support.http.exchanges import CORPUS
from tests.support.raw_client import BODY, LIVE, Reply, post

HEAD = post().removesuffix(BODY)
SLOW = post(target=b"/predict?")
"""A request for a hot endpoint that is no plain one."""


def test_a_watch_dates_each_request_by_its_first_byte() -> None:
    """In one packet, in many, behind one another."""
    watch = RequestWatch()
    for now, piece in enumerate([LIVE[:5], LIVE[5:] + LIVE + LIVE[:1], LIVE[1:], LIVE]):
        watch.receive(piece, now)
    assert list(watch.first_bytes) == [0, 1, 1, 3]


@pytest.mark.parametrize("name", ["chunked", "expect", "chunked-trailer", "get", "http-1.0"])
def test_a_watch_knows_whether_a_request_is_whole(name: str) -> None:
    """From its first byte to its last one a request is being received."""
    watch = RequestWatch()
    for place, byte in enumerate(CORPUS[name]):
        watch.receive(bytes([byte]), place)
        assert watch.receiving_since == (0 if place < len(CORPUS[name]) - 1 else math.inf)


def test_a_watch_counts_the_bytes_of_a_head() -> None:
    """Those of a body do not count, nor those of a head that is whole."""
    watch = RequestWatch()
    watch.receive(HEAD[:10], 0)
    watch.receive(HEAD[10:30], 0)
    assert watch.head_bytes == 30
    watch.receive(HEAD[30:], 0)
    assert watch.head_bytes == -math.inf
    watch.receive(BODY + LIVE[:1], 0)
    watch.receive(LIVE[1:5], 0)
    assert watch.head_bytes == 4


def test_a_watch_survives_what_is_no_http() -> None:
    """After a mistake it waits for nothing; uvicorn answers."""
    watch = RequestWatch()
    watch.receive(LIVE + b"\0", 0)
    watch.receive(LIVE, 1)
    assert watch.receiving_since == math.inf


@pytest.mark.parametrize("rest", [LIVE[:20], HEAD, HEAD[:-3]], ids=["part of a head", "no body", "head without end"])
def test_half_a_request_is_late(scene: Scene, rest: bytes) -> None:
    """Also behind other requests on the connection, and no sooner than a request may take."""

    async def meet() -> list[bool]:
        wire = scene.connect()
        wire.packet(LIVE)
        await wire.replies(1)
        now = perf_counter()
        calm = wire.protocol.is_late(now + 1000, 10)
        wire.packet(rest)
        return [calm, wire.protocol.is_late(now + 9, 10), wire.protocol.is_late(perf_counter() + 11, 10)]

    assert scene.run(meet()) == [False, False, True]


def test_who_is_not_listened_to_is_not_late(scene: Scene) -> None:
    """The time in which uvicorn does not read the connection does not count."""

    async def meet() -> list[bool]:
        wire = scene.connect()
        wire.packet(LIVE)
        await wire.replies(1)
        wire.packet(HEAD)
        wire.pause_reading()
        later = perf_counter() + 100
        waiting = wire.protocol.is_late(later, 10)
        wire.resume_reading()
        return [waiting, wire.protocol.is_late(later + 9, 10), wire.protocol.is_late(later + 11, 10)]

    assert scene.run(meet()) == [False, False, True]


def test_an_endless_head_is_refused(scene: Scene) -> None:
    """The fast path hands a head over that is too long; behind another request uvicorn's path has the same limit."""

    async def meet(*before: bytes) -> list[Reply]:
        wire = scene.connect()
        for request in before:
            wire.packet(request)
            await wire.replies(1)
        await wire.packets([LIVE[:-2] + b"x: ", *[b"y" * 1000] * (MAX_HEAD_BYTES // 1000 + 3)])
        assert wire.is_closing()
        return await wire.replies(1)

    found = [scene.run(meet(*before)) for before in ([], [post()], [LIVE])]
    assert found[0] == found[1] == found[2]
    assert [(reply.status, reply.body) for reply in found[0]] == [(400, b"The head of the request is too large.")]


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


def test_uvicorn_owes_no_more_than_a_protocol() -> None:
    """Of uvicorn's protocol we use what asyncio asks of any protocol, and the ``shutdown`` that its server calls."""
    tree = ast.parse(inspect.getsource(uvicorn_path))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self._uvicorn"
    }
    assert used - {"shutdown"} <= set(dir(asyncio.Protocol))
    assert "data_received" in used
