"""Where something fails for requests that are answered together, each is told, and nothing is done twice."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.api.conftest import Run
from tests.support.http.callers import (
    assert_nothing_is_left,
    body_of,
    counts,
    held,
    predict,
    receive,
    send,
    stored,
    together,
)
from tests.support.raw_client import Reply, post


@pytest.mark.parametrize("target", [b"/predict", b"/outcome"])
def test_a_small_queue_takes_what_fits(gather: Run, target: bytes) -> None:
    """More neighbours than may wait for the store: as many as fit are answered, the others may come again."""
    scene = gather(serving={"max_queue_rows": 4}, outcomes={"unknown": "hold"})
    bodies = {b"/predict": body_of((1.0, 1.0, 1.0)), b"/outcome": b'{"prediction_id": "early", "outcome": "yes"}'}
    found = scene.run(together(scene, [post(bodies[target], target=target)] * 10))

    statuses = Counter(reply.status for reply in found)
    assert statuses[200] >= 4
    assert statuses[200] + statuses[503] == 10
    assert_nothing_is_left(scene)


def test_who_waits_at_the_end_is_told_so(gather: Run) -> None:
    """When the drain is over, everybody in the group gets 503; the rows may still be stored, and are counted failed."""
    scene = gather()

    async def drain() -> list[Reply]:
        with held(scene):
            wires = await send(scene, [predict((1.0, 1.0, 1.0))] * 5)
            for task in list(scene.tasks):
                task.cancel()
            return await receive(wires)

    found = scene.run(drain())
    assert {(reply.status, reply.headers["retry-after"]) for reply in found} == {(503, "1")}
    assert counts(scene) == {"failed": 5}
    assert len(stored(scene)) == 5  # which the answer left open
    assert_nothing_is_left(scene)


def test_a_deadline_is_everybodys(gather: Run) -> None:
    """Whoever waits in the group for longer than ``server.deadline`` gets 504."""
    scene = gather(server={"deadline": "50ms"})

    async def wait() -> list[Reply]:
        with held(scene):
            return await receive(await send(scene, [predict((1.0, 1.0, 1.0))] * 3))

    assert [reply.status for reply in scene.run(wait())] == [504] * 3
    assert counts(scene) == {"failed": 3}
    assert len(stored(scene)) == 3
    assert_nothing_is_left(scene)


@pytest.mark.parametrize("part", ["values", "shadows"])
def test_what_fails_behind_the_commit_stores_nothing_twice(
    gather: Run, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored is not done again, alone: each is told of the failure, with an id to look for in the log."""
    scene = gather(serving={"shadows": ["2"]})
    services = scene.app.state.services

    def fails(*_: Any) -> None:
        raise ValueError("broken")

    if part == "values":
        monkeypatch.setattr(services.registry.active.values, "observe", fails)
    else:
        monkeypatch.setattr(services.predictor.shadows, "offer", fails)
    with capture_logs() as logs:
        found = scene.run(together(scene, [predict((1.0, 1.0, 1.0))] * 3))

    assert [reply.status for reply in found] == [500] * 3
    assert [line["error_id"] for line in logs if "error_id" in line] == [
        reply.headers["x-request-id"] for reply in found
    ]
    assert counts(scene) == {"failed": 3}
    assert len(stored(scene)) == 3


def test_a_slow_model_is_asked_by_its_own_queue(gather: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes nothing in the event loop answers single rows beside the rows of a list."""
    scene = gather()
    monkeypatch.setattr(scene.app.state.services.registry.active.batcher, "max_inline_rows", 0)
    many = post(json.dumps({"instances": [(1.0, 1.0, 1.0)] * 50}).encode())
    found = scene.run(together(scene, [predict((1.0, 1.0, 1.0)), many, predict((1.0, 1.0, 1.0))]))

    assert [reply.status for reply in found] == [200] * 3
    assert len(stored(scene)) == 52
    assert_nothing_is_left(scene)


def test_who_does_not_read_delays_nobody(gather: Run) -> None:
    """A caller whose answers pile up gets the next one when there is room; its neighbours have theirs before."""
    scene = gather()

    async def meet() -> list[Reply]:
        first, idle, last = wires = [scene.connect() for _ in range(3)]
        idle.protocol.pause_writing()
        for wire in wires:
            wire.packet(predict((1.0, 1.0, 1.0)))
        found = await receive([first, last])
        idle.protocol.resume_writing()
        return [*found, *await receive([idle])]

    assert [reply.status for reply in scene.run(meet())] == [200] * 3
    assert_nothing_is_left(scene)
