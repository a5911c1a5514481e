"""A running service that a case is called on."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.api.cases import ADMIN, PREDICT_ONLY, READ_ONLY, Case
from tests.support.api.contract import Contract
from tests.support.application import Client, client_of, make_config

SCOPES = {ADMIN: ["admin", "metrics"], PREDICT_ONLY: ["predict"], READ_ONLY: ["read"]}


@dataclass(frozen=True)
class World:
    """A running service, and the ids of what is in it."""

    client: Client
    contract: Contract
    ids: Mapping[str, str] = field(default_factory=dict)

    def call(self, case: Case) -> httpx.Response:
        """Make a call."""
        method, _, path = case.operation.partition(" ")
        headers = {**case.headers, **({"x-api-key": case.key} if case.key else {})}
        options: dict[str, Any] = {"params": dict(case.params), "headers": headers}
        address = (case.path or path).format_map(self.ids)
        if method == "GET":
            return self.client.get(address, **options)
        if method == "DELETE":
            return self.client.delete(address, **options)
        if case.content is not None:
            headers.setdefault("content-type", "application/json")
            return self.client.post(address, content=case.content, **options)
        if case.status == 408:
            headers["content-type"] = "application/json"
            return self.client.post(address, content=_never_ending(), **options)
        return self.client.post(address, case.body, **options)


async def _never_ending() -> AsyncIterator[bytes]:
    """A body that begins, and goes on for longer than anybody waits."""
    from anyio import sleep_forever

    yield b"{"
    await sleep_forever()


def auth() -> dict[str, object]:
    """A key for each of the scopes that a case needs."""
    names = {key: f"key{place}" for place, key in enumerate(SCOPES)}
    keys = [
        {"name": names[key], "sha256": hashlib.sha256(key.encode()).hexdigest(), "scopes": scopes}
        for key, scopes in SCOPES.items()
    ]
    return {"keys": keys}


@contextmanager
def world_of(folder: Path, models: Path, name: str, **sections: Any) -> Iterator[World]:
    """A service over one of the bundles."""
    with client_of(make_config(folder, models, name, auth=auth(), **sections)) as client:
        yield World(client, Contract(client.get("/openapi.json").json()))


def post(client: Client, path: str, body: object = None) -> Any:
    """The answer to a call that must succeed."""
    answer = client.post(path, body, headers={"x-api-key": ADMIN})
    assert answer.status_code == 200, answer.text
    return answer.json()
