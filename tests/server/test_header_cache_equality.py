"""A head that was read before says what the parser would say; whatever else comes, the parser reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from app.server.fast_path import HeaderCache
from tests.support.application import make_config
from tests.support.bursts import ODD, USUAL, all_replies
from tests.support.connections import Scene, scene_of
from tests.support.models.tasks import Fitted
from tests.support.raw_client import BODY, LIVE, Reply, post

BURSTS = some.lists(
    some.tuples(
        some.lists(some.sampled_from(USUAL), min_size=1, max_size=3) | some.tuples(some.sampled_from(ODD)),
        some.lists(some.floats(0, 1), max_size=2),
    ),
    min_size=1,
    max_size=6,
)


class Forgetful(HeaderCache):
    """Knows nothing, so that the parser reads everything."""

    def find(self, data: bytes) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Scene]:
    """An application over three numbers."""
    with scene_of(make_config(tmp_path_factory.mktemp("heads"), small_models[0], "text")) as made:
        yield made


def test_what_is_known_is_answered_as_the_parser_has_it(scene: Scene) -> None:
    """Plain and odd requests, alone and behind one another, cut anywhere: with and without memory, one answer."""
    shared = HeaderCache()
    for request in USUAL:  # what is known by now was read from another connection
        scene.run(all_replies(scene.connect(shared), [([request], [])]))

    @settings(max_examples=60)
    @given(BURSTS)
    def holds(bursts: list[tuple[list[bytes], list[float]]]) -> None:
        expected = scene.run(all_replies(scene.connect(Forgetful()), bursts))
        assert scene.run(all_replies(scene.connect(shared), bursts)) == expected

    holds()


@pytest.mark.parametrize("around", [LIVE[:-2] + b"x: ", post(post())[: -len(post())]], ids=["header", "body"])
def test_a_known_request_within_another_is_none(scene: Scene, around: bytes) -> None:
    """Bytes that would be a request are part of another one where they come in its midst, in a packet of their own."""
    heads = HeaderCache()
    scene.run(all_replies(scene.connect(heads), [([post()], [])]))
    burst = [([around + post()], [(len(around) + 0.5) / len(around + post())])]

    found = scene.run(all_replies(scene.connect(heads), burst))

    assert found == scene.run(all_replies(scene.connect(Forgetful()), burst))
    assert b"probabilities" not in found[0].body


def test_a_known_request_waits_for_the_one_before(scene: Scene) -> None:
    """Answers come in the order of the requests, also where the second one would be quicker."""
    heads = HeaderCache()
    many = b'{"instances": [%b]}' % b",".join([b"[0.1, 0.2, 0.3]"] * 50)

    async def meet() -> list[Reply]:
        wire = scene.connect(heads)
        wire.packet(post(BODY, b"x-request-id: second"))
        await wire.replies(1)
        wire.packet(post(many, b"x-request-id: first"))
        wire.packet(post(BODY, b"x-request-id: second"))
        return await wire.replies(2)

    assert [reply.headers["x-request-id"] for reply in scene.run(meet())] == ["first", "second"]
