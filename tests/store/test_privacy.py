"""Sensitive values are stored in another form, watched in it, and a subject is erased."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.config.settings import Config
from app.store.privacy import HASH_PREFIX, Privacy, keep_salt
from app.types import Feature, FeatureType, ModelSchema, Task
from tests.api.test_app import KEYS, ROW, keys
from tests.support.application import Client, client_of, make_config, service_log
from tests.support.models.tasks import Fitted

SECTION = {"subject": "email", "features": {"channel": "hash", "email": "hash", "income": "truncate", "member": "off"}}
BOSS = {"x-api-key": KEYS["boss"]}
ALICE: dict[str, Any] = {
    "features": {**ROW, "income": 48_213.5},
    "context": {"email": "alice@example.com", "region": "EU"},
}


@pytest.fixture
def start(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Callable[..., Client]]:
    """Starts a service over the mixed features; it stops with the test."""
    with ExitStack() as stack:
        yield lambda **sections: stack.enter_context(
            client_of(make_config(tmp_path, small_models[0], "mixed", **sections))
        )


def files_of(folder: Path) -> bytes:
    """All bytes of the store's files."""
    return b"".join(file.read_bytes() for file in folder.glob("plumbline.db*"))


def test_a_sensitive_value_is_never_stored(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The model gets the values; the store, an export, the log and the metrics have their other form."""
    config = make_config(tmp_path, small_models[0], "mixed", privacy=SECTION)
    with service_log(), client_of(config) as client:
        plain = client.post("/predict", {"features": ALICE["features"], "prediction_id": "a"}).json()
        client.post("/predict", {**ALICE, "prediction_id": "b"})
        client.post("/predict", {"instances": [ALICE["features"]], "contexts": [ALICE["context"]]})
        stored = client.get("/predictions/b").json()
        exports = [client.get("/predictions", params={"format": form}) for form in ("jsonl", "csv", "parquet")]
        seen = "".join(answer.text for answer in exports[:2]) + client.get("/metrics").text + json.dumps(stored)
        bytes_of = files_of(tmp_path) + exports[2].content
    seen += capsys.readouterr().out

    assert stored["prediction"] == plain["prediction"]
    assert stored["features"]["age"] == ROW["age"]
    assert stored["features"]["income"] == 40_000.0
    assert stored["features"]["member"] is None
    assert stored["features"]["channel"].startswith(HASH_PREFIX)
    assert stored["context"]["email"].startswith(HASH_PREFIX)
    assert stored["context"]["region"] == "EU"
    assert [answer.status_code for answer in exports] == [200] * 3
    for secret in ("alice@example", "48213"):
        assert secret not in seen
        assert secret.encode() not in bytes_of
    assert b'"web"' not in files_of(tmp_path)


def test_a_repeated_id_is_compared_in_its_stored_form(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """The same row is a replay and another is a conflict, one or many, also where the row was stored clear before."""
    call = {**ALICE, "prediction_id": "b"}
    other = {**call, "features": {**ALICE["features"], "channel": "shop"}}
    with client_of(make_config(tmp_path, small_models[0], "mixed")) as client:
        client.post("/predict", {**ALICE, "prediction_id": "clear"})
    with client_of(make_config(tmp_path, small_models[0], "mixed", privacy=SECTION)) as client:
        first = client.post("/predict", call)
        assert client.post("/predict", call).json() == first.json()
        many = {"instances": [ALICE["features"]], "prediction_ids": ["b"]}
        assert client.post("/predict", many).status_code == 200
        assert client.post("/predict", other).status_code == 409
        assert client.post("/predict", {**ALICE, "prediction_id": "clear"}).status_code == 200
        assert client.rows == 2


def test_hashed_categories_are_watched(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """A drift report knows hashed categories by their hash, and leaves out what cannot be compared."""
    rows = small_models[1]["mixed"].rows[:300]
    section = {"features": {"channel": "hash", "income": "truncate", "member": "off"}}
    sections: dict[str, Any] = {"privacy": section, "performance": {"segments": ["channel", "member"]}}
    with client_of(make_config(tmp_path, small_models[0], "mixed", **sections)) as client:
        for start in range(0, len(rows), 100):
            assert client.post("/predict", {"instances": rows[start : start + 100]}).status_code == 200
        assert client.post("/checks").status_code == 200
        report, performance = client.get("/drift").json(), client.get("/performance").json()
        metrics = client.get("/metrics")

    assert metrics.status_code == 200
    assert report["errors"] == []
    assert performance["errors"] == []
    assert set(report["features"]) == {"age", "channel"}
    assert report["features"]["channel"]["status"] == "stable"
    shown = json.dumps(report) + json.dumps(performance)
    assert HASH_PREFIX in shown
    for name in ("web", "shop"):
        assert f'"{name}"' not in shown


def test_a_subject_is_erased(
    start: Callable[..., Client],
    capsys: pytest.CaptureFixture[str],
    small_models: tuple[Path, dict[str, Fitted]],
) -> None:
    """Every row of a subject goes with its outcomes, those of others stay, and the audit names no one."""
    bob = {"features": small_models[1]["mixed"].rows[0], "context": {"email": "bob@example.com"}}
    with service_log():
        client = start(auth=keys("boss", "caller"), privacy=SECTION)
        for number in range(3):
            client.post("/predict", {**ALICE, "prediction_id": f"a{number}"}, headers=BOSS)
            client.post("/predict", {**bob, "prediction_id": f"b{number}"}, headers=BOSS)
        client.post("/outcome", {"prediction_id": "a1", "outcome": "good"}, headers=BOSS)
        params = {"subject": "alice@example.com"}
        assert client.delete("/predictions", params=params).status_code == 401
        assert client.delete("/predictions", params=params, headers={"x-api-key": KEYS["caller"]}).status_code == 403
        assert client.delete("/predictions", headers=BOSS).status_code == 422
        erased = client.delete("/predictions", params=params, headers=BOSS)
        again = client.delete("/predictions", params=params, headers=BOSS)
    audit = client.read(lambda connection: connection.exec_driver_sql("SELECT act, by, body FROM audit").all())
    outcomes = client.read(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM outcomes").scalar())

    assert (erased.json(), again.json()) == ({"erased": 3}, {"erased": 0})
    assert client.get("/predictions/a1", headers=BOSS).status_code == 404
    assert client.rows == 3
    assert outcomes == 0
    assert [(row.act, row.by, json.loads(row.body)["rows"]) for row in audit] == [
        ("subject_erased", "boss", 3),
        ("subject_erased", "boss", 0),
    ]
    assert "alice@" not in capsys.readouterr().out + str(audit)


def test_a_numeric_subject_is_found_clear_and_hashed(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """A number in the query finds a number in the rows, whichever form it was stored in."""
    for features in ({}, {"age": "hash"}):
        section = {"subject": "age", "features": features}
        with client_of(make_config(tmp_path, small_models[0], "mixed", privacy=section)) as client:
            client.post("/predict", {"features": {**ROW, "age": 31}})
            client.post("/predict", {"features": {**ROW, "age": 32}})
    with client_of(make_config(tmp_path, small_models[0], "mixed", privacy=section)) as client:
        assert client.delete("/predictions", params={"subject": "31"}).json() == {"erased": 2}
        assert client.rows == 2
    with client_of(make_config(tmp_path, small_models[0], "mixed")) as client:
        assert client.delete("/predictions", params={"subject": "31"}).status_code == 409


def test_a_subject_that_could_not_be_found_is_refused() -> None:
    """A subject that is left out or cut could never be erased."""
    for mode in ("off", "truncate"):
        with pytest.raises(ValueError, match="clear or hashed"):
            Config.model_validate({"privacy": {"subject": "email", "features": {"email": mode}}})


def test_a_hash_needs_its_salt_and_is_the_same_for_equal_numbers() -> None:
    """Hashes differ by salt and by type, not by how a number is written."""
    one, other = Privacy({"a": "hash"}, "1"), Privacy({"a": "hash"}, "2")

    assert one.hash(1) == one.hash(1.0) != one.hash("1")
    assert one.hash("x") != other.hash("x")
    assert "1" not in repr(Privacy({}, "1"))
    feature = Feature("a", FeatureType.CATEGORICAL, categories=("x",))
    schema = ModelSchema("m", "1", Task.BINARY, (feature, Feature("b", FeatureType.NUMERIC)), (0, 1), 1)
    assert one.row(schema, ("x", 2)) == (one.hash("x"), 2)
    assert one.watched_schema(schema).features[0].categories == (one.hash("x"),)


def test_the_salt_stays(start: Callable[..., Client]) -> None:
    """The first salt of a store is its salt, whoever brings another."""
    client = start(privacy=SECTION)

    async def keep() -> tuple[str, str]:
        journal = client.services.journal
        return await journal.run(keep_salt), await journal.run(lambda connection: keep_salt(connection, "other"))

    first, second = client.wait_for(keep)
    assert first == second == client.services.privacy.salt
