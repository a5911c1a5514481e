"""Whatever comes, in whatever pieces: the answers are those that uvicorn gives to the same requests one by one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.support.connections import Scene
from tests.support.http.exchanges import CORPUS, USUAL, cut, exchange, exchange_behind, exchange_by_uvicorn
from tests.support.raw_client import LIVE, post

TOKENS = [b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b"0", b"9", b",", b"\xff", b"\r\n\r\n", b"HTTP/1.1"]
LINES = [
    b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"expect: 100-continue\r\n",
    b"x-request-id: mine\r\n", b" folded\r\n",
]  # fmt: skip
MUTABLE = [data for name, data in CORPUS.items() if not name.startswith("upgrade")]
"""uvicorn drops what comes in one packet with a request for an upgrade, behind it."""
KNOWN = [USUAL["trace"], USUAL["plain"]]
PLACES = some.floats(0, 1)


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS)
def test_each_request_of_the_corpus(scene: Scene, data: bytes) -> None:
    """At once, byte by byte, behind a plain request, where heads are known, where the connection is uvicorn's."""
    expected = scene.run(exchange_by_uvicorn(scene, data))
    number = len(expected.replies)
    assert scene.run(exchange(scene, [data], number)).is_like(expected)
    assert scene.run(exchange(scene, [bytes([byte]) for byte in data], number)).is_like(expected)
    behind = scene.run(exchange(scene, [post() + data], number + 1))
    assert behind._replace(replies=behind.replies[1:]).is_like(expected)
    for before in (KNOWN, [LIVE]):
        assert scene.run(exchange_behind(scene, before, data, number)).is_like(expected)


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
        expected = scene.run(exchange_by_uvicorn(scene, data))
        assert scene.run(exchange(scene, cut(data, places), len(expected.replies))).is_like(expected)

    holds()
