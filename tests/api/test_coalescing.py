"""Requests that are answered together are answered as each would be alone, once, and whoever else is there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.store.tables import OUTCOMES
from tests.api.conftest import Run
from tests.support.application import make_config
from tests.support.connections import scene_of
from tests.support.http.callers import (
    assert_nothing_is_left,
    body_of,
    counts,
    held,
    id_of,
    outcome,
    predict,
    read_from,
    receive,
    sample,
    samples_of,
    send,
    stored,
    together,
)
from tests.support.models.versions import ANSWERS, NAME, ROW
from tests.support.raw_client import Reply, post


def test_neighbours_are_asked_about_in_one_call(gather: Run) -> None:
    """Who asks in one turn of the loop is answered by one call of the model, and stands in the store by own id."""
    scene = gather()
    rows = [(step / 10, 1.0, -1.0) for step in range(20)]
    found = scene.run(together(scene, [predict(row) for row in rows]))

    kept = stored(scene)
    assert [tuple(kept[id_of(reply)].features) for reply in found] == rows
    assert [kept[id_of(reply)].request_id for reply in found] == [reply.headers["x-request-id"] for reply in found]
    assert sample(scene, "ml_batch_rows_count") == 1
    assert sample(scene, "ml_prediction_latency_seconds_count", _labels()) == len(rows)


def test_own_ids_are_stored_in_one_group(gather: Run) -> None:
    """New ids, replays, conflicts, an id that comes twice at once: one row an id, and the ledger counts no replay."""
    scene = gather()
    row, other = (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)
    scene.run(together(scene, [predict(row, prediction_id=f"old-{number}") for number in range(3)]))
    calls = sample(scene, "ml_batch_rows_count")
    found = scene.run(
        together(
            scene,
            [
                *(predict(row, prediction_id=f"new-{number}") for number in range(10)),
                predict(row),
                *(predict(row, prediction_id=f"old-{number}") for number in range(2)),
                predict(other, prediction_id="old-2"),
                predict(row, prediction_id="twice"),
                predict(row, prediction_id="twice"),
                predict(other, prediction_id="twice"),
            ],
        )
    )

    assert [reply.status for reply in found] == [200] * 13 + [409] + [200, 200, 409]
    kept = stored(scene)
    assert set(kept) == {f"new-{n}" for n in range(10)} | {"old-0", "old-1", "old-2", "twice", id_of(found[10])}
    assert {tuple(prediction.features) for prediction in kept.values()} == {row}
    assert found[14].body == found[15].body
    assert sample(scene, "ml_batch_rows_count") - calls == 3  # the last two have to wait for the first of their id
    assert counts(scene) == {"ok": 15, "replayed": 3, "refused": 2}
    assert_nothing_is_left(scene)
    assert sample(scene, "ml_journal_rows_total", (("state", "accepted"),)) == 15


def test_no_more_than_the_model_takes_at_once(gather: Run) -> None:
    """A group is never larger than ``serving.max_batch_rows``; whoever is beyond it is answered all the same."""
    scene = gather(serving={"max_batch_rows": 4})
    found = scene.run(together(scene, [predict((1.0, 1.0, 1.0))] * 10))

    assert [reply.status for reply in found] == [200] * 10
    assert sample(scene, "ml_batch_rows_bucket", (("le", "4.0"),)) == sample(scene, "ml_batch_rows_count")
    assert len(stored(scene)) == 10


def test_one_request_id_for_many(gather: Run) -> None:
    """Callers with the same ``x-request-id`` get it back, and predictions of their own."""
    scene = gather()
    found = scene.run(together(scene, [post(body_of((1.0, 1.0, 1.0)), b"x-request-id: mine")] * 5))

    assert {reply.headers["x-request-id"] for reply in found} == {"mine"}
    assert len({id_of(reply) for reply in found}) == len(stored(scene)) == 5


def test_keys_are_looked_at_one_by_one(gather: Run) -> None:
    """Between neighbours a key opens nothing for another, and an outcome is recorded in its own caller's name."""
    scene = gather(auth={"keys": [_key("one"), _key("two"), _key("reader", "read")]})
    names = ["one", "nobody", "two", "reader", "one"]
    found = scene.run(together(scene, [post(body_of((1.0, 1.0, 1.0)), b"x-api-key: %b" % n.encode()) for n in names]))
    assert [reply.status for reply in found] == [200, 401, 200, 403, 200]

    good = {name: id_of(reply) for name, reply in zip(names[:3], found[:3], strict=True) if reply.status == 200}
    truths = [outcome(id_, "yes", b"x-api-key: %b" % name.encode()) for name, id_ in good.items()]
    assert [reply.status for reply in scene.run(together(scene, truths))] == [200, 200]
    columns = select(OUTCOMES.c.recorded_by, OUTCOMES.c.prediction_id)
    recorded = scene.run(read_from(scene, lambda connection: dict(map(tuple, connection.execute(columns)))))
    assert recorded == good


def test_outcomes_are_judged_in_their_order(gather: Run) -> None:
    """Of two outcomes for one prediction in one group the first is the truth; the unknown and invalid stand alone."""
    scene = gather()
    one, other = (id_of(reply) for reply in scene.run(together(scene, [predict((1.0, 1.0, 1.0))] * 2)))
    sent = [(one, "yes"), (one, "yes"), (one, "no"), ("nobody", "yes"), (other, 1), (other, "no"), ("!", "no")]
    found = scene.run(together(scene, [outcome(*each) for each in sent]))

    assert [reply.status for reply in found] == [200, 200, 409, 404, 422, 200, 422]
    assert [json.loads(reply.body).get("status") for reply in found[:2]] == ["matched", "duplicate"]
    counted = {
        status: sample(scene, "ml_outcomes_total", (("status", status),))
        for status in ("matched", "duplicate", "conflict", "unknown", "invalid")
    }
    assert counted == {"matched": 2, "duplicate": 1, "conflict": 1, "unknown": 1, "invalid": 1}


def test_a_group_ends_with_the_version_that_it_began_with(gather: Run) -> None:
    """Another version that is activated meanwhile answers from the next request on."""
    scene = gather()
    registry = scene.app.state.services.registry
    row = tuple(ROW.values())

    async def switch() -> list[Reply]:
        with held(scene):
            wires = await send(scene, [predict(row)] * 3)
            registry.activate(registry.prepare("2"))
        return await receive(wires)

    for version, found in (("1", scene.run(switch())), ("2", scene.run(together(scene, [predict(row)] * 3)))):
        answers = [json.loads(reply.body) for reply in found]
        assert {(answer["model_version"], answer["prediction"]) for answer in answers} == {(version, ANSWERS[version])}
        assert sample(scene, "ml_prediction_latency_seconds_count", _labels(model_version=version)) == 3


def test_values_are_counted_as_those_of_single_rows(switch_models: Path, tmp_path: Path) -> None:
    """The histograms of what goes in and comes out do not know who came together."""
    rows = [(step / 7, -step / 5, 1.0) for step in range(12)]
    found = []
    for place, groups in enumerate([[rows], [[row] for row in rows]]):
        (tmp_path / str(place)).mkdir()
        with scene_of(make_config(tmp_path / str(place), switch_models, f"{NAME}/1")) as scene:
            for group in groups:
                scene.run(together(scene, [predict(row) for row in group]))
            seen = samples_of(scene).items()
            found.append({key: value for key, value in seen if key[0].startswith(("ml_feature_", "ml_prediction_val"))})

    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert sum(value for (_, labels), value in found[0].items() if ("le", "+Inf") in labels) == 4 * len(rows)


def _key(name: str, *scopes: str) -> dict[str, Any]:
    chosen = list(scopes or ("predict", "outcome"))
    return {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "scopes": chosen}


def _labels(**more: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"model_name": NAME, "model_version": "1", **more}.items()))
