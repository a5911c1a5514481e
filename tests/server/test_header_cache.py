"""What is remembered of a request: a plain head that came whole, and nothing that is odd, secret or large."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.server.fast_path import MOST_BYTES, MOST_HEADS, HeaderCache
from tests.support.application import make_config
from tests.support.bursts import LONGER, ODD, OUTCOME, SPACED, USUAL, all_replies
from tests.support.connections import Scene, scene_of
from tests.support.models.tasks import Fitted
from tests.support.raw_client import BODY, LIVE, Reply, post


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Scene]:
    """An application over three numbers."""
    with scene_of(make_config(tmp_path_factory.mktemp("heads"), small_models[0], "text")) as made:
        yield made


@pytest.mark.parametrize("odd", ODD[len(USUAL) :])
def test_what_is_odd_is_not_kept(scene: Scene, odd: bytes) -> None:
    """Nothing that the parser refuses, or that ends the connection, is remembered."""
    heads = HeaderCache()
    scene.run(all_replies(scene.connect(heads), [([odd], [])]))
    assert heads.find(odd) is None


@pytest.mark.parametrize("request_", [post(), post(LONGER), post(SPACED), post(b"{"), OUTCOME, b"\r\n" + post()])
def test_a_plain_head_is_known_from_its_second_time_on(scene: Scene, request_: bytes) -> None:
    """Whatever its body says, and on whichever connection it comes; behind other bytes, or without some, it is not."""
    heads = HeaderCache()
    scene.run(all_replies(scene.connect(heads), [([request_], [])]))

    found = heads.find(request_)
    assert found is not None
    assert found.size + found.length == len(request_)
    assert heads.find(request_[:-1]) is None
    assert heads.find(request_ + b"P") is None
    assert heads.find(b"\r\n" + request_) is None
    assert heads.find(b"GET" + request_[4:]) is None


@pytest.mark.parametrize("header", [b"X-API-Key", b"authorization", b"cookie", b"Proxy-Authorization"])
def test_a_secret_is_not_kept(scene: Scene, header: bytes) -> None:
    """What lets a caller in is in memory while its request is, and no longer."""
    heads = HeaderCache()
    request = post(BODY, header + b": Bearer k")
    reply, _ended = scene.run(all_replies(scene.connect(heads), [([request], [])]))

    assert reply.status == 200
    assert heads.find(request) is None


def test_a_head_in_parts_or_before_another_is_not_kept(scene: Scene) -> None:
    """Only what came as one whole request, with nothing behind it, can be found again as such."""
    for cut in range(1, len(post())):
        heads = HeaderCache()
        scene.run(all_replies(scene.connect(heads), [([post()], [cut / len(post())])]))
        assert heads.find(post()) is None
    heads = HeaderCache()
    scene.run(all_replies(scene.connect(heads), [([post(), post()], [])]))
    assert heads.find(post()) is None


def test_a_head_is_kept_under_its_own_bytes(scene: Scene) -> None:
    """A request whose begin came behind another one is not taken for that one, whatever the lengths."""
    heads = HeaderCache()
    begin = post()[: len(BODY)]  # as long as the body that the other one would then have

    async def meet() -> list[Reply]:
        wire = scene.connect(heads)
        wire.packet(LIVE + begin)
        first = await wire.replies(1)
        wire.packet(post()[len(begin) :])
        return [*first, *await wire.replies(1)]

    assert [reply.status for reply in scene.run(meet())] == [200, 200]
    assert heads.find(LIVE + begin) is None


def test_memory_is_bounded(scene: Scene) -> None:
    """Heads that are never the same make room for each other; a long one is not kept."""
    heads = HeaderCache()

    def known(number: int) -> bytes:
        return post(BODY, b"x-trace: %d" % number)

    requests = [known(number) for number in range(MOST_HEADS + 2)]
    long = post(BODY, b"x-long: " + b"x" * MOST_BYTES)
    scene.run(all_replies(scene.connect(heads), [([request], []) for request in [*requests, long]]))

    kept = [heads.find(request) is not None for request in requests]
    assert kept == [False] * MOST_HEADS + [True] * 2
    assert heads.find(long) is None
