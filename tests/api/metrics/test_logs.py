"""The lines of requests and of predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.logging import PredictionLog, configure_logging, line_outputs
from app.types import ModelSchema, Task
from tests.api.conftest import Run, Start
from tests.support.application import client_of, make_config, samples, service_log
from tests.support.connections import Scene, scene_of
from tests.support.http.callers import predict, together
from tests.support.models.faulty import RAISES
from tests.support.models.tasks import Fitted
from tests.support.raw_client import Reply, post
from tests.support.rows import prediction

ROW = {"age": 30, "income": 1.5, "channel": "web", "member": True}
PRIVATE = {"age": "truncate", "income": "off", "channel": "hash"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = f"00-{TRACE}-b7ad6b7169203331-01"
IDS = (b"x-request-id: r", b"traceparent: %b" % TRACED.encode())
Models = tuple[Path, dict[str, Fitted]]


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """The log of before, also behind a test that configures it."""
    with service_log():
        yield
        for output in line_outputs():
            if isinstance(output, logging.FileHandler):
                with suppress(OSError):  # what found no room is still there
                    output.close()


def lines(capsys: pytest.CaptureFixture[str], **fields: Any) -> list[dict[str, Any]]:
    """The lines so far that have these fields."""
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return [line for line in found if fields.items() <= line.items()]


async def speak(scene: Scene, bodies: list[dict[str, Any]], *, by_asgi: bool) -> list[Reply]:
    """The answers to requests on one connection, one behind the other."""
    wire = scene.connect(by_asgi=by_asgi)
    await wire.packets([post(json.dumps(body).encode(), *IDS) for body in bodies])
    return await wire.replies(len(bodies))


@pytest.mark.parametrize("by_asgi", [False, True])
def test_each_stored_prediction_has_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_models: Models, *, by_asgi: bool
) -> None:
    """A row alone and each row of a list has a line with the ids of its request, over both paths; a replay has none."""
    configure_logging(json=True)
    one, many = {"features": ROW, "prediction_id": "one"}, {"instances": [ROW] * 2, "prediction_ids": ["two", None]}
    with scene_of(make_config(tmp_path, small_models[0], "mixed", logging={"predictions": "ids"})) as scene:
        replies = scene.run(speak(scene, [one, one, many, {"features": {}}], by_asgi=by_asgi))
    found = lines(capsys, logger="predictions")

    assert [reply.status for reply in replies] == [200, 200, 200, 422]
    assert len(found) == 3
    assert {line["prediction_id"] for line in found} >= {"one", "two"}
    assert {(line["request_id"], line["trace_id"], line["model_version"]) for line in found} == {("r", TRACE, "1")}
    assert all(line["latency_ms"] > 0 and "features" not in line for line in found)


def test_a_line_shows_no_more_than_is_stored(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, small_models: Models
) -> None:
    """With `all` a line has the features in the form of `privacy.features`, and the answer."""
    configure_logging(json=True)
    sections: dict[str, Any] = {"logging": {"predictions": "all"}, "privacy": {"features": PRIVATE}}
    with client_of(make_config(tmp_path, small_models[0], "mixed", **sections)) as client:
        answer = client.post("/predict", {"features": {**ROW, "age": 48}, "prediction_id": "a"}).json()
        kept = client.get("/predictions/a").json()
    (line,) = lines(capsys, logger="predictions")

    assert line["features"] == kept["features"]
    assert (line["features"]["age"], line["features"]["income"]) == (40, None)
    assert (line["prediction"], line["probabilities"]) == (answer["prediction"], answer["probabilities"])


def test_more_lines_than_there_is_room_for_are_counted() -> None:
    """The queue of lines is bounded: what finds no place is counted by rows, and nobody waits."""
    log = PredictionLog(has_values=False, max_rows=3)
    schema, rows = ModelSchema("m", "1", Task.BINARY, ()), [prediction(str(number)) for number in range(2)]
    for _ in range(3):
        log.offer(schema, [None, None], rows, [None, None])

    assert log.lost == {"queue": 4}


def test_the_line_of_a_request_names_its_prediction(capsys: pytest.CaptureFixture[str], start: Start) -> None:
    """Its prediction, its version and its trace are in the access log, refused or not; a list names no row."""
    configure_logging(json=True)
    client = start("mixed", logging={"access": "all"})
    traced = {"headers": {"traceparent": TRACED}}
    client.post("/predict", {"features": ROW, "prediction_id": "a"}, **traced)
    client.post("/predict", {"features": {**ROW, "age": 31}, "prediction_id": "a"}, **traced)
    client.post("/predict", {"features": {}}, **traced)
    client.post("/predict", {"instances": [ROW], "prediction_ids": ["b"]}, **traced)
    client.post("/outcome", {"prediction_id": "a", "outcome": "good"}, **traced)
    client.get("/predictions/a", **traced)
    client.get("/health/live")
    found = [line for line in lines(capsys, logger="access") if line["route"] != "/health/live"]

    assert [line["status"] for line in found] == [200, 409, 422, 200, 200, 200]
    assert [line.get("prediction_id") for line in found] == ["a", "a", None, None, "a", "a"]
    assert [line.get("model_version") for line in found] == ["1", "1", "1", "1", None, None]
    assert {line["trace_id"] for line in found} == {TRACE}


@pytest.mark.parametrize(
    "sent", ["", "00-1-2-01", f"ff{TRACED[2:]}", f"{TRACED}-x", TRACED.upper(), TRACED.replace(TRACE, "0" * 32)]
)
def test_a_broken_trace_is_none(capsys: pytest.CaptureFixture[str], start: Start, sent: str) -> None:
    """A `traceparent` that W3C does not allow leaves no trace in the log."""
    configure_logging(json=True)
    client = start("mixed")
    client.post("/predict", {"features": {}}, headers={"traceparent": sent})
    client.get("/health/live")

    (line,) = lines(capsys, logger="access")
    assert "trace_id" not in line


def test_a_failure_of_the_model_names_its_request(capsys: pytest.CaptureFixture[str], gather: Run) -> None:
    """In a group the line of a model's failure has the ids of the guilty request alone."""
    configure_logging(json=True)
    scene = gather("moody/1", serving={"allow_pickle": True})
    bad = post(json.dumps({"features": [RAISES, 1.0, 1.0]}).encode(), *IDS)
    replies = scene.run(together(scene, [predict((1.0, 1.0, 1.0)), bad, predict((2.0, 1.0, 1.0))]))

    assert sorted(reply.status for reply in replies) == [200, 200, 500]
    (line,) = lines(capsys, event="model_failed")
    assert (line["request_id"], line["trace_id"]) == ("r", TRACE)


def test_an_act_in_another_thread_names_its_request(capsys: pytest.CaptureFixture[str], start: Start) -> None:
    """What a request causes is logged with its ids, from the writer's thread too, and a later line has none of it."""
    configure_logging(json=True)
    client = start("mixed")
    ids = {"traceparent": TRACED, "x-request-id": "mine"}
    client.post("/checks", {}, headers=ids)
    found = [line for line in lines(capsys, request_id="mine") if line["logger"] != "access"]

    assert {line["event"] for line in found} >= {"checked"}
    assert {line["trace_id"] for line in found} == {TRACE}


@pytest.mark.parametrize("predictions", ["off", "all"])
def test_a_full_disk_costs_no_answer_and_is_counted(start: Start, predictions: str) -> None:
    """Lines that find no room are counted on `/metrics` by their number; every request is answered as ever."""
    configure_logging(json=True, file=Path("/dev/full"))
    client = start("mixed", logging={"access": "all", "predictions": predictions})
    statuses = [client.post("/predict", {"features": ROW}).status_code for _ in range(3)]
    client.get("/health/live")

    def lost() -> float:
        text = client.get("/metrics").text
        return samples(text)["ml_log_lines_lost_total", (("reason", "output"),)]

    assert statuses == [200, 200, 200]
    assert lost() >= 3
