"""Whoever comes together with whomever, the good, the gone and the poisoned, gets what it would get alone."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from structlog.testing import capture_logs

from tests.api.conftest import Run
from tests.support.connections import Scene
from tests.support.http.callers import assert_nothing_is_left, counts, predict, receive, send, stored
from tests.support.models.faulty import RAISES
from tests.support.raw_client import Reply, post

Fate = Literal["stays", "leaves", "is poisoned", "is no JSON", "has a context", "is a list", "is gzip"]
FATES: list[Fate] = ["stays", "stays", "leaves", "is poisoned", "is no JSON", "has a context", "is a list", "is gzip"]
STATUS = {"is poisoned": 500, "is no JSON": 422, "is gzip": 415}


class Guest(NamedTuple):
    """One caller: its row, and what is special about it."""

    row: tuple[float, float, float]
    fate: Fate

    @property
    def request(self) -> bytes:
        """What it sends."""
        row = (RAISES, *self.row[1:]) if self.fate == "is poisoned" else self.row
        match self.fate:
            case "is no JSON":
                return post(b"{")
            case "has a context":
                return predict(row, context={"at": 1})
            case "is a list":
                return post(json.dumps({"instances": [row, row]}).encode())
            case "is gzip":
                return post(b"no gzip", b"content-encoding: gzip")
        return predict(row)


PLACES = some.floats(-3, 3)
GUESTS = some.lists(
    some.builds(Guest, some.tuples(PLACES, PLACES, PLACES), some.sampled_from(FATES)), min_size=1, max_size=10
)


def test_everybody_gets_their_own_answer_once(gather: Run) -> None:
    """The good, the gone, the poisoned and the special in one turn: each as if alone, every row stored once."""
    scene = gather("moody", serving={"allow_pickle": True, "runtime": "sklearn"})
    expected: Counter[str] = Counter()

    @settings(max_examples=40)
    @given(GUESTS)
    def holds(guests: list[Guest]) -> None:
        with capture_logs():
            found = scene.run(_meet(scene, guests))
        ids = []
        for guest, reply in zip(guests, found, strict=True):
            rows = 2 if guest.fate == "is a list" else 1
            status = STATUS.get(guest.fate, 200)
            expected[{200: "ok", 500: "failed"}.get(status, "refused")] += rows
            if guest.fate == "leaves":
                assert reply is None
                continue
            assert reply is not None
            assert reply.status == status
            if status == 200:
                for answer in json.loads(reply.body).get("predictions") or [json.loads(reply.body)]:
                    assert list(answer["probabilities"].values()) == pytest.approx(_alone(scene, guest), abs=1e-12)
                    ids.append((answer["prediction_id"], guest.row))
        kept = stored(scene)
        assert [(id_, tuple(kept[id_].features)) for id_, _ in ids] == ids
        assert len(kept) == expected["ok"]
        assert counts(scene) == expected

    holds()
    assert_nothing_is_left(scene)


async def _meet(scene: Scene, guests: Sequence[Guest]) -> list[Reply | None]:
    """What each guest gets, all having come in one turn; who leaves does so in the next one, and gets nothing."""
    wires = await send(scene, [guest.request for guest in guests])
    stay = [guest.fate != "leaves" for guest in guests]
    for wire, stays in zip(wires, stay, strict=True):
        if not stays:
            wire.leave()
    found = iter(await receive([wire for wire, stays in zip(wires, stay, strict=True) if stays]))
    await asyncio.gather(*scene.tasks)
    return [next(found) if stays else None for stays in stay]


def _alone(scene: Scene, guest: Guest) -> Sequence[float]:
    answer = scene.app.state.services.registry.active.bundle.estimator.predict([guest.row])[0]
    assert answer.probabilities is not None
    return list(answer.probabilities)
