"""``/docs`` and ``/openapi.json``: every route, in the terms of the loaded model, without a network."""

from __future__ import annotations

import re
from typing import Any

import pytest

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
