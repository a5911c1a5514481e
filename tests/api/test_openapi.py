"""``/docs`` and ``/openapi.json``: every route, in the terms of the loaded model, without a network."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

import pytest

from app.api import openapi
from app.api.app import Application
from app.api.examples import synthetic_rows
from app.monitoring.reference.reference import load_reference
from app.types import Feature, FeatureType, ModelSchema, Task
from tests.api.conftest import Start
from tests.support.application import Client


def references(node: Any) -> set[str]:
    """Every ``$ref`` in a document."""
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    return set().union(*(references(value) for value in node)) if isinstance(node, list) else set()


def test_every_route_is_described(mixed: Client) -> None:
    """The description holds each route that the application answers, and each operation's id once."""
    described = mixed.get("/openapi.json").json()
    routes = {
        (re.sub(r":\w+}", "}", path), method.lower())
        for path, method, described_ in mixed.routes
        if described_ and path not in ("/predict", "/outcome")
    }
    there = {(path, method) for path, item in described["paths"].items() for method in item}
    ids = [operation["operationId"] for item in described["paths"].values() for operation in item.values()]

    assert there == routes | {("/predict", "post"), ("/outcome", "post")}
    assert len(ids) == len(set(ids))


def test_the_description_is_whole(mixed: Client) -> None:
    """It is OpenAPI 3.1; what it refers to is there; each operation has a response and a summary."""
    described = mixed.get("/openapi.json").json()

    assert described["openapi"].startswith("3.1")
    for reference in references(described):
        node = described
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    for item in described["paths"].values():
        for operation in item.values():
            assert operation["summary"]
            assert operation["responses"]


@pytest.mark.parametrize("name", ["mixed", "zero_one", "blank", "three", "price"])
def test_the_examples_work(start: Start, name: str) -> None:
    """What the description shows as a request is answered 200, with the answer that it shows; so is its outcome."""
    client = start(name)
    paths = client.get("/openapi.json").json()["paths"]
    operation = paths["/predict"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    shown = operation["responses"]["200"]["content"]["application/json"]["examples"]["one"]["value"]
    for example in examples.values():
        answer = client.post("/predict", example["value"])
        assert answer.status_code == 200
    answer = client.post("/predict", {**examples["one"]["value"], "prediction_id": "order-7781"}).json()
    outcome = paths["/outcome"]["post"]["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]

    assert answer | {"prediction_id": ""} == shown | {"prediction_id": ""}
    assert client.post("/outcome", outcome).json()["status"] == "matched"


def test_operations_stand_in_groups_in_the_order_of_use(mixed: Client) -> None:
    """Every operation is in one described group, and the groups come in the order in which somebody needs them."""
    described = mixed.get("/openapi.json").json()
    groups = [tag["name"] for tag in described["tags"]]
    used = [operation["tags"] for item in described["paths"].values() for operation in item.values()]
    first = list(dict.fromkeys(tags[0] for tags in used))

    assert all(len(tags) == 1 for tags in used)
    assert first == groups[: len(first)]
    assert set(first) == set(groups)
    assert groups[:3] == ["predict", "outcome", "predictions"]
    assert all(tag["description"] for tag in described["tags"])


def test_a_key_that_is_entered_on_the_page_is_sent_as_it_is_asked_for(start: Start) -> None:
    """Authorize offers the header that the service takes a key in, for every operation that needs one."""
    client = start("mixed", auth={"keys": [{"name": "a", "sha256": sha256(b"k").hexdigest(), "scopes": ["read"]}]})
    described = client.get("/openapi.json").json()
    scheme = described["components"]["securitySchemes"]["apiKey"]
    guarded = {
        path
        for path, item in described["paths"].items()
        if any({"apiKey"} & each.keys() for each in item.get("get", {}).get("security", ()))
    }

    assert (scheme["type"], scheme["in"]) == ("apiKey", "header")
    assert {"/alerts", "/drift", "/summary", "/reports", "/models"} <= guarded
    for path in ("/alerts", "/drift", "/summary", "/reports", "/models"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={scheme["name"]: "k"}).status_code == 200


def test_the_page_needs_no_network(mixed: Client) -> None:
    """The page loads scripts and styles from this service alone, and they are there."""
    page = mixed.get("/docs")
    sources = re.findall(r'(?:src|href)="([^"]*)"', page.text)

    assert page.status_code == 200
    assert len(sources) >= 2
    for source in sources:
        assert source.startswith("/docs/assets/")
        assert mixed.get(source).status_code == 200
    assert "://" not in page.text


def test_no_row_of_the_reference_is_shown(start: Start) -> None:
    """The example is made of averages: no row of the reference has its values."""
    client = start("mixed")
    bundle = client.services.registry.active.bundle
    content = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    shown = content["application/json"]["examples"]["one"]["value"]["features"]
    ages = load_reference(bundle.folder, bundle.schema).columns[bundle.schema.feature_names.index("age")]

    assert tuple(shown.values()) not in set(map(tuple, bundle.golden_rows))
    assert bundle.schema.features[0].low <= shown["age"] <= bundle.schema.features[0].high
    assert float(shown["age"]) == pytest.approx(float(ages.mean()), abs=1.5)


def test_synthetic_rows_pass_over_those_that_are_stored() -> None:
    """Another value takes the place of a feature until no stored row is like it; at last the plainest row is given."""
    features = (
        Feature("channel", FeatureType.CATEGORICAL, categories=("app", "web")),
        Feature("age", FeatureType.INTEGER, low=0.0, high=90.0),
    )
    schema = ModelSchema("m", "1", Task.REGRESSION, features)
    known = {"channel": {"categories": ["app", "web"], "counts": [1, 9]}, "age": {"mean": 41.2}}

    assert next(synthetic_rows(schema, known, lambda _: False)) == ("web", 41)
    assert next(synthetic_rows(schema, known, {("web", 41)}.__contains__)) == ("web", 42)
    assert list(synthetic_rows(schema, known, lambda _: True)) == [("web", 41)]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads in which the description was made."""
    threads: list[int] = []
    describe: Callable[[Any], Any] = openapi.describe

    def noting(app: Application) -> Any:
        threads.append(threading.get_ident())
        return describe(app)

    monkeypatch.setattr(openapi, "describe", noting)
    return threads


def test_the_description_is_made_once_and_not_in_the_event_loop(start: Start, made: list[int]) -> None:
    """Callers that come together, and all later ones, get the bytes that one thread has made."""
    client = start("mixed")

    async def ask() -> tuple[int, list[bytes]]:
        document = client.app.openapi_document  # type: ignore[attr-defined]  # it is ours
        return threading.get_ident(), list(await asyncio.gather(*(document() for _ in range(20))))

    loop, texts = client.wait_for(ask)
    assert {client.get("/openapi.json").content for _ in range(3)} == set(texts)
    assert len(made) == 1
    assert loop not in made


def test_a_failure_to_describe_is_not_kept(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One failure is a 500, and the next caller gets the description."""
    client = start("mixed")
    with monkeypatch.context() as broken:
        broken.setattr(openapi, "describe", partial(int, "no number"))
        assert client.get("/openapi.json").status_code == 500

    assert client.get("/openapi.json").status_code == 200


def test_no_operation_takes_an_address(mixed: Client) -> None:
    """No parameter and no field of a body is an address or a file that the service would open."""
    described = mixed.get("/openapi.json").json()
    operations = [operation for path in described["paths"].values() for operation in path.values()]
    taken = json.dumps([[each.get("parameters"), each.get("requestBody")] for each in operations])
    bodies = {name for name in described["components"]["schemas"] if f'#/components/schemas/{name}"' in taken}
    taken += json.dumps([described["components"]["schemas"][name] for name in sorted(bodies)])

    names = set(re.findall(r'"(\w+)": \{', taken)) | set(re.findall(r'"name": "(\w+)"', taken))
    assert len(names) > 10
    assert [name for name in names if re.search(r"url|uri|href|webhook|callback|endpoint|host|file", name)] == []
    assert '"format": "uri"' not in taken
