"""What is stored can be read: by id, by page, as a stream; and reports before and after they exist."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.api.endpoints.exports import join_schemas, renderer
from app.types import Feature, FeatureType, Json, ModelSchema, Task
from tests.support.application import Client, client_of, make_config
from tests.support.models.tasks import Fitted, read_csv

COUNT = 2_345
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Client]:
    """A service with a few thousand predictions, each third labelled."""
    models, fitted = small_models
    rows = (fitted["mixed"].rows * 10)[:COUNT]
    ids = [f"p{number:05}" for number in range(COUNT)]
    with client_of(make_config(tmp_path_factory.mktemp("full"), models, "mixed")) as client:
        body: dict[str, Any] = {"instances": rows, "prediction_ids": ids, "context": {"note": 'a "b",\n; c'}}
        assert client.post("/predict", body).status_code == 200
        outcomes = [{"prediction_id": name, "outcome": "good", "value": 1.5} for name in ids[::3]]
        assert client.post("/outcome", {"outcomes": outcomes}).json()["counts"] == {"matched": len(outcomes)}
        yield client


def test_pages_hold_everything_once(full: Client) -> None:
    """Following ``next`` gives each prediction once, in order of time."""
    seen: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        page = full.get("/predictions", params={"limit": 1000, "cursor": cursor}).json()
        seen += [item["prediction_id"] for item in page["items"]]
        cursor, pages = page["next"], pages + 1

    assert seen == [f"p{number:05}" for number in range(COUNT)]
    assert pages == 3


def test_an_export_is_every_row(full: Client) -> None:
    """As JSON lines and as CSV: all rows, each like the one that ``GET /predictions/{id}`` gives with its request."""
    lines = [json.loads(line) for line in full.get("/predictions", params={"format": "jsonl"}).text.splitlines()]
    table = read_csv(full.get("/predictions", params={"format": "csv"}).text)
    one = full.get("/predictions/p00003").json()

    assert len(lines) == len(table) == COUNT
    assert one["latency_ms"] > 0
    assert {**lines[3], "request_id": one["request_id"], "latency_ms": one["latency_ms"]} == one
    assert table[3]["feature.channel"] == one["features"]["channel"]
    assert float(table[3]["probability.good"]) == one["probabilities"]["good"]
    assert table[3]["outcome"] == "good"
    assert table[4]["outcome"] == ""
    assert json.loads(table[3]["context"]) == one["context"]
    assert RFC3339.fullmatch(table[3]["predicted_at"])


def test_selections_narrow(full: Client) -> None:
    """By label, version and time; a time without its zone is refused."""

    def count(**params: str) -> int:
        return len(full.get("/predictions", params={"format": "jsonl", **params}).text.splitlines())

    moment = full.get("/predictions/p00000").json()["predicted_at"]

    assert count(labelled="true") == -(-COUNT // 3)
    assert count(labelled="false") == COUNT - -(-COUNT // 3)
    assert count(model_version="1") == COUNT
    assert count(model_version="2") == 0
    assert count(**{"from": moment}) == COUNT
    assert count(to=moment) == 0
    assert full.get("/predictions", params={"from": "2026-01-01T00:00:00"}).status_code == 422


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/predictions", {"limit": "0"}),
        ("/predictions", {"limit": "1000000000"}),
        ("/predictions", {"limit": "x"}),
        ("/predictions", {"cursor": "nonsense"}),
        ("/predictions", {"cursor": "1.\0"}),
        ("/predictions", {"cursor": "9" * 19 + ".a"}),
        ("/predictions", {"model_version": "\0"}),
        ("/predictions", {"from": "yesterday"}),
        ("/predictions", {"from": "1700000000"}),
        ("/predictions", {"to": "NaN"}),
        ("/predictions", {"format": "pickle"}),
        ("/predictions", {"limit": "1", "format": "csv"}),
        ("/predictions", {"labelled": "perhaps"}),
        ("/outcomes", {"cursor": "\0"}),
        ("/outcomes", {"status": "lost"}),
        ("/drift/history", {"cursor": "\0"}),
        ("/drift/history", {"limit": "-1"}),
        ("/performance/history", {"from": "2026-13-01T00:00:00Z"}),
    ],
)
def test_wrong_parameters_are_422(full: Client, path: str, params: dict[str, str]) -> None:
    """A parameter that makes no sense is named, and its value not repeated."""
    answer = full.get(path, params=params)

    assert answer.status_code == 422
    assert answer.json()["detail"][0]["field"] == next(iter(params))


@pytest.mark.parametrize(
    "path",
    ["/predictions/nobody", "/predictions/a%00b", "/predictions/%F0%9F%98%80", "/predictions/..%2f..%2fetc",
     "/reports/nothing",
     "/reports/a%00b", "/models/other", "/models/..%2fx", "/drift?model_version=9", "/drift?model_version=%00",
     "/performance?model_version=9", "/drift/history?feature=nothing"],
)  # fmt: skip
def test_what_is_not_there_is_404(full: Client, path: str) -> None:
    """Unknown ids, names and versions, whatever they are made of."""
    assert full.get(path).status_code == 404


def test_before_the_first_report(full: Client) -> None:
    """/drift and /performance answer 200 with ``insufficient_data`` and what is missing; histories are empty."""
    for kind in ("drift", "performance"):
        report = full.get(f"/{kind}").json()
        if report["report_id"] is None:  # the monitor may have been quicker than this test
            assert report["status"] == "insufficient_data"
            assert report["message"]
            assert full.get(f"/{kind}/history").json() == {"items": [], "next": None}


def test_models_tell_their_schema(full: Client, fitted: dict[str, Fitted]) -> None:
    """The served model with its versions, roles, features, classes, baseline and reference."""
    model = full.get("/models/mixed").json()
    version = model["versions"][0]

    assert full.get("/models").json() == {"items": [model], "next": None}
    assert (version["version"], version["role"], version["task"]) == ("1", "active", "binary")
    assert [feature["name"] for feature in version["features"]] == list(fitted["mixed"].rows[0])
    assert {feature["name"]: feature["type"] for feature in version["features"]} == {
        "age": "integer", "income": "numeric", "channel": "categorical", "member": "boolean",
    }  # fmt: skip
    assert version["classes"] == ["bad", "good"]
    assert 0.5 < version["baseline"]["accuracy"] <= 1
    assert version["reference"]["rows"] == len(fitted["mixed"].rows)
    assert re.fullmatch(r"[0-9a-f]{64}", version["sha256"])


def test_unusual_rows_are_a_selection(start: Callable[..., Client], fitted: dict[str, Fitted]) -> None:
    """A strange row of a checked window is listed with what makes it so, as a page and as an export."""
    client, rows = start("mixed"), fitted["mixed"].rows[:100]
    asked = client.get("/predictions", params={"unusual": "true"}).json()
    reason = "no drift report of this version has looked for unusual rows yet"
    assert asked == {"items": [], "next": None, "reason": reason}
    strange = rows[0] | {"age": 1e9}
    ids = [*(f"row-{place}" for place in range(len(rows))), "strange"]
    assert client.post("/predict", {"instances": [*rows, strange], "prediction_ids": ids}).status_code == 200
    assert client.post("/checks").status_code == 200

    report = client.get("/drift").json()["unusual_rows"]
    page = client.get("/predictions", params={"unusual": "true"}).json()["items"]
    lines = client.get("/predictions", params={"unusual": "true", "format": "jsonl"}).text.splitlines()

    assert report["rows"][0]["prediction_id"] == "strange"
    assert report["rows"][0]["features"][0]["feature"] == "age"
    named = {each["prediction_id"]: each for each in report["rows"]}
    assert {row["prediction_id"]: row["unusual"] for row in page} == named
    assert len(lines) == len(page)


def test_the_probes(full: Client) -> None:
    """Alive and ready, and ready says why."""
    assert full.get("/health/live").json() == {"live": True}
    ready = full.get("/health/ready").json()
    assert ready["ready"] is True
    assert ready["checks"].keys() >= {"model", "journal", "store", "monitor"}


def test_csv_has_the_columns_of_all_versions() -> None:
    """Rows of an older version leave the new feature's cell empty; the line of names is there without any row."""
    older = ModelSchema("m", "1", Task.BINARY, (Feature("a", FeatureType.NUMERIC),), (False, True))
    newer = replace(older, version="2", features=(*older.features, Feature("c", FeatureType.NUMERIC)))
    rows: list[Json] = [
        {"features": {"a": 0.5}, "probabilities": {"false": 1.0, "true": 0.0}},
        {"features": {"a": 0.5, "c": 7.5}, "probabilities": None},
    ]
    rest = dict.fromkeys(("prediction_id", "model_name", "model_version", "predicted_at", "outcome", "context"), "")
    page = renderer("csv", join_schemas(older, [newer], []))([row | rest | {"prediction": True} for row in rows])
    table = read_csv(page.decode())

    assert [row["feature.c"] for row in table] == ["", "7.5"]
    assert [row["probability.false"] for row in table] == ["1.0", ""]
    assert renderer("csv", newer)([]).decode().startswith("prediction_id,model_name,")
