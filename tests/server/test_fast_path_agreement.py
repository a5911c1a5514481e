"""Whatever comes, in whatever pieces: the answers are those of the ASGI path to the same requests at once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.support.connections import Scene
from tests.support.http.exchanges import CORPUS, USUAL, cut, exchange, without_ids
from tests.support.raw_client import LIVE, Reply, post

TOKENS = [b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b"0", b"9", b",", b"\xff", b"\r\n\r\n", b"HTTP/1.1"]
LINES = [
    b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"expect: 100-continue\r\n",
    b"x-request-id: mine\r\n", b" folded\r\n",
]  # fmt: skip
MUTABLE = list(CORPUS.values())
KNOWN = [USUAL["trace"], USUAL["plain"]]
PLACES = some.floats(0, 1)


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS)
def test_each_request_of_the_corpus(scene: Scene, data: bytes) -> None:
    """At once, byte by byte, behind a plain request, where heads are known, and all of that over ASGI."""
    expected = scene.run(exchange(scene, [data], by_asgi=True))
    for by_asgi in (False, True):
        assert scene.run(exchange(scene, [data], by_asgi=by_asgi)) == expected
        assert scene.run(exchange(scene, [bytes([byte]) for byte in data], by_asgi=by_asgi)) == expected
        behind = scene.run(exchange(scene, [post() + data], by_asgi=by_asgi))
        assert behind._replace(replies=behind.replies[1:]) == expected
        for before in (KNOWN, [LIVE]):
            assert scene.run(exchange(scene, [data], before, by_asgi=by_asgi)) == expected


@pytest.mark.parametrize("data", USUAL.values(), ids=USUAL)
def test_usual_requests_are_answered_as_by_uvicorn(scene: Scene, data: bytes) -> None:
    """The protocol of uvicorn, which shares no parser with ours, gives the same answers to what is no mistake."""

    async def by_uvicorn() -> Reply:
        wire = scene.connect(by_uvicorn=True)
        await wire.packets([data])
        (reply,) = await wire.replies(1)
        wire.leave()
        return without_ids(reply)

    assert [scene.run(by_uvicorn())] == scene.run(exchange(scene, [data])).replies


@some.composite
def mutations(draw: some.DrawFn) -> bytes:
    """A request of the corpus with a few mistakes in it, most of them in its head."""
    data = draw(some.sampled_from(MUTABLE))
    for _ in range(draw(some.integers(0, 3))):
        place = int(draw(PLACES) * len(data))
        match draw(some.sampled_from(["insert", "line", "remove", "repeat", "replace"])):
            case "insert":
                data = data[:place] + draw(some.sampled_from(TOKENS)) + data[place:]
            case "line":
                place = data.find(b"\r\n", place) + 2
                data = data[:place] + draw(some.sampled_from(LINES)) + data[place:]
            case "remove":
                data = data[:place] + data[place + draw(some.integers(1, 8)) :]
            case "repeat":
                end = place + draw(some.integers(1, 40))
                data = data[:end] + data[place:]
            case _:
                data = data[:place] + draw(some.binary(min_size=1, max_size=1)) + data[place + 1 :]
    return data


def test_any_requests_in_any_pieces(scene: Scene) -> None:
    """Good, odd and broken requests behind one another, cut anywhere."""

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        some.lists(some.sampled_from(list(USUAL.values())) | mutations(), min_size=1, max_size=4),
        some.lists(PLACES, max_size=4),
    )
    def holds(requests: list[bytes], places: list[float]) -> None:
        data = b"".join(requests)
        expected = scene.run(exchange(scene, [data], by_asgi=True))
        assert scene.run(exchange(scene, cut(data, places))) == expected
        assert scene.run(exchange(scene, cut(data, places), by_asgi=True)) == expected

    holds()
