"""API keys in the store: made, bound, expired, revoked, noted, and limited in what can be tried."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.api.request_guards import FAILURE_WINDOW_S, MAX_ADDRESSES, MAX_FAILURES, FailureLimit, Keyring
from app.config.settings import Key
from app.errors import NotFound, TooManyRequests, Unauthenticated
from app.store.queries.keys import StoredKey, read_keys
from app.types import Micros
from tests.api.test_app import KEYS, ROW, call, keys
from tests.support.application import Client, client_of, make_config
from tests.support.models.tasks import Fitted

BOSS = {"x-api-key": KEYS["boss"]}


@pytest.fixture
def client(start: Callable[..., Client]) -> Client:
    """A service with one administrator in its configuration."""
    return start("mixed", auth=keys("boss"), logging={"access": "all"})


def make(client: Client, name: str, **body: Any) -> dict[str, str]:
    """The header with a new key."""
    answer = client.post("/keys", {"name": name, **body}, headers=BOSS)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return {"x-api-key": answer.json()["key"]}


def listed(client: Client) -> dict[str, Any]:
    """What ``GET /keys`` says of each key, by name."""
    return {item["name"]: item for item in client.get("/keys", headers=BOSS).json()["items"]}


def stored_key(key: str, **fields: Any) -> StoredKey:
    """A key as the store has it."""
    sha256 = hashlib.sha256(key.encode()).hexdigest()
    made = StoredKey("ci", sha256, ("read",), None, Micros(1), None, None, None, None, None)
    return replace(made, **fields)


def test_a_stored_key_opens_its_scopes_until_it_is_revoked(client: Client) -> None:
    """A key holds from its answer on, and no longer once it is revoked; its name is not used again."""
    header = make(client, "ci", scopes=["read"])
    assert call(client, "read", header) == 200
    assert call(client, "predict", header) == 403
    assert client.delete("/keys/ci", headers=BOSS).json()["state"] == "revoked"
    assert call(client, "read", header) == 401
    assert client.post("/keys", {"name": "ci"}, headers=BOSS).status_code == 409
    assert client.post("/keys", {"name": "boss"}, headers=BOSS).status_code == 409
    assert client.delete("/keys/boss", headers=BOSS).status_code == 409
    assert client.delete("/keys/nobody", headers=BOSS).status_code == 404


def test_a_change_by_another_replica_is_followed(client: Client) -> None:
    """A key that another replica revoked is refused once the keyring has looked at the store."""
    header = make(client, "ci", scopes=["read"])
    assert call(client, "read", header) == 200
    [seen] = client.read(read_keys)
    client.services.keyring.load([replace(seen, revoked_at=Micros(1))])
    assert call(client, "read", header) == 401

    client.wait_for(client.services.keys.refresh)

    assert call(client, "read", header) == 200


def test_the_list_has_every_key_and_no_secret(client: Client) -> None:
    """Names, scopes, model, times, state and last use are listed; a key or its hash is not."""
    header = make(client, "ci", scopes=["read"], model="mixed", expires="90d")
    call(client, "read", header)

    answer = client.get("/keys", headers=BOSS)
    found = listed(client)

    assert found["ci"]["scopes"] == ["read"]
    assert found["ci"]["model"] == "mixed"
    assert found["ci"]["created_by"] == "boss"
    assert found["ci"]["expires_at"] > found["ci"]["last_used_at"] >= found["ci"]["created_at"]
    assert (found["ci"]["source"], found["boss"]["source"]) == ("store", "configuration")
    assert header["x-api-key"] not in answer.text
    assert hashlib.sha256(header["x-api-key"].encode()).hexdigest() not in answer.text
    assert client.get("/keys", params={"limit": 1}, headers=BOSS).json()["next"] == "boss"


def test_wrong_keys_are_not_made(client: Client) -> None:
    """A name, scope or duration that is none is refused."""
    bodies: list[dict[str, Any]] = [
        {"name": "a b"},
        {"scopes": ["root"]},
        {"scopes": []},
        {"expires": "soon"},
        {"expires": "9999999d"},
    ]
    for wrong in bodies:
        assert client.post("/keys", {"name": "ci", **wrong}, headers=BOSS).status_code == 422


def test_a_service_whose_last_key_is_revoked_stays_closed(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """The first stored key closes an open service, and its end does not open it again."""
    config = make_config(tmp_path, small_models[0], "mixed")
    with client_of(config) as client:
        assert call(client, "read", {}) == 200
        boss = {"x-api-key": client.post("/keys", {"name": "me", "scopes": ["admin"]}).json()["key"]}
        assert call(client, "read", {}) == 401
        assert client.delete("/keys/me", headers=boss).status_code == 200
        assert call(client, "read", {}) == 401
    with client_of(config) as client:
        assert call(client, "read", {}) == 401


def test_a_key_of_one_model_sees_no_other(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Predictions of another model can be neither read, exported, repeated nor labelled: they are unknown."""
    one = {"features": ROW, "prediction_id": "p1"}
    with client_of(make_config(tmp_path, small_models[0], "mixed")) as client:
        assert client.post("/predict", one).status_code == 200
    folder, name = small_models[0], next(name for name in small_models[1] if name != "mixed")
    with client_of(make_config(tmp_path, folder, name, auth=keys("boss"), outcomes={"unknown": "hold"})) as client:
        mine = make(client, "mine", model=name, scopes=["predict", "outcome", "read", "admin"])
        foreign = make(client, "foreign", model="mixed", scopes=["read"])
        assert client.get("/predictions/p1", headers=BOSS).status_code == 200
        assert client.get("/predictions/p1", headers=mine).status_code == 404
        assert client.get("/predictions", headers=mine).json()["items"] == []
        truth = {"prediction_id": "p1", "outcome": "good"}
        assert client.post("/outcome", truth, headers=mine).status_code == 404
        many = client.post("/outcome", {"outcomes": [truth]}, headers=mine).json()
        assert many["counts"] == {"unknown": 1}
        assert client.get("/outcomes", headers=mine).json()["items"] == []
        assert client.get("/predictions", headers=foreign).status_code == 404
        assert client.post("/keys", {"name": "more"}, headers=mine).status_code == 403
        assert client.get("/predictions/p1", headers=BOSS).json()["revisions"] == []


def test_the_documentation_and_the_metrics_can_be_closed(start: Callable[..., Client]) -> None:
    """Without their names in ``auth.open``, the documentation needs the scope read, and the metrics theirs."""
    client = start("mixed", auth=keys("boss", "watcher") | {"open": []})
    watcher = {"x-api-key": KEYS["watcher"]}

    for path in ("/docs", "/openapi.json", "/metrics"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=BOSS).status_code == 200
    assert client.get("/docs", headers=watcher).status_code == 200
    assert client.get("/metrics", headers=watcher).status_code == 403


def test_too_many_wrong_keys_are_told_to_wait(client: Client) -> None:
    """After 20 wrong keys an address without a valid key gets 429; a right key is still taken."""
    for path in ("/predict", "/predictions") * (MAX_FAILURES // 2):
        ask = client.post if path == "/predict" else client.get
        assert ask(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    for headers in ({"x-api-key": "wrong"}, {}):
        refused = client.get("/predictions", headers=headers)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= FAILURE_WINDOW_S
        assert client.post("/predict", {"features": ROW}, headers=headers).status_code == 429
    assert call(client, "read", BOSS) == 200
    assert call(client, "predict", BOSS) == 200


def test_the_failures_are_bounded_and_forgotten() -> None:
    """The limit is by address, a network of IPv6 is one, it ends with its window, and its memory is bounded."""
    now = [0.0]
    limit = FailureLimit(lambda: now[0])
    for number in range(MAX_FAILURES):
        limit.count(f"2001:db8:1:2::{number}")
    with pytest.raises(TooManyRequests) as refused:
        limit.check("2001:db8:1:2:9::1")
    assert refused.value.retry_after == FAILURE_WINDOW_S
    limit.check("2001:db8:1:3::1")
    limit.check("10.0.0.1")
    now[0] = FAILURE_WINDOW_S
    limit.check("2001:db8:1:2::1")
    now[0] = 0.0
    for number in range(MAX_ADDRESSES):
        limit.count(f"10.{number // 256}.{number % 256}.1")
    limit.check("2001:db8:1:2::1")


def test_an_expired_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is cached ends with its time, and then counts as a wrong one."""
    keyring = Keyring(())
    keyring.load([stored_key("k", expires_at=Micros(10_000_000))])
    monkeypatch.setattr("app.api.request_guards.time", lambda: 9.0)
    assert keyring.authorise({b"x-api-key": b"k"}, "read") is not None
    monkeypatch.setattr("app.api.request_guards.time", lambda: 10.0)
    with pytest.raises(Unauthenticated):
        keyring.authorise({b"x-api-key": b"k"}, "read")


def test_uses_are_told_once() -> None:
    """The keyring tells which stored keys were used since it was asked; a changed key empties what was cached."""
    configured = Key(name="boss", sha256=hashlib.sha256(b"b").hexdigest(), scopes=("admin",), model="other")
    keyring = Keyring([configured], model="credit")
    keyring.load([stored_key("k")])
    keyring.authorise({b"authorization": b"Bearer k"}, "read")
    with pytest.raises(NotFound):
        keyring.authorise({b"x-api-key": b"b"}, "read")
    assert (keyring.take_used(), keyring.take_used()) == ({"ci"}, set())
    keyring.load([stored_key("k", last_used_at=Micros(5))])
    keyring.authorise({b"authorization": b"Bearer k"}, "read")
    assert keyring.take_used() == {"ci"}
    keyring.load([stored_key("other")])
    with pytest.raises(Unauthenticated):
        keyring.authorise({b"authorization": b"Bearer k"}, "read")


def test_the_names_of_keys_are_in_the_access_log(client: Client, capfdbinary: Any) -> None:
    """Access and audit lines carry the name of the key, on hot and other routes, and never the key."""
    header = make(client, "ci", scopes=["predict", "read"])
    call(client, "predict", header)
    call(client, "read", header)
    client.wait_for(lambda: asyncio.sleep(0))

    lines = [json.loads(line) for line in capfdbinary.readouterr().out.decode().splitlines() if '"access"' in line]

    assert {(line["route"], line["key"]) for line in lines} >= {
        ("/keys", "boss"),
        ("/predict", "ci"),
        ("/predictions", "ci"),
    }
    assert "plumb_" not in str(lines)
    acts = client.read(lambda connection: connection.exec_driver_sql("SELECT act, by FROM audit").all())
    assert ("key_created", "boss") in [tuple(row) for row in acts]
