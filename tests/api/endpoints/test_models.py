"""A version is activated and rolled back over HTTP: stored, followed, and never at the cost of a request."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sqlite3
import weakref
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeAlias
from uuid import uuid4

import httpx
import pytest

from app import background
from app.config.settings import Config
from app.errors import Conflict
from app.store.queries.versions import read_activation
from tests.api.test_app import KEYS, keys
from tests.support.application import Client, client_of, make_config, running, samples, services_of
from tests.support.deadlines import DEADLINE_S
from tests.support.models.versions import ANSWERS, NAME, ROW, build_versions
from tests.support.processes import Postgres

CALLERS = 64
Configure: TypeAlias = Callable[..., Config]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with three versions of one."""
    models = tmp_path_factory.mktemp("versions")
    build_versions(models)
    return models


@pytest.fixture
def configure(tmp_path: Path, versions: Path) -> Configure:
    """Makes configurations that name version 1, over a copy of the bundles that a test may damage."""
    models = tmp_path / "models"
    shutil.copytree(versions, models)
    return partial(make_config, tmp_path, models, f"{NAME}/1")


def activate(client: Client, version: str, **options: Any) -> httpx.Response:
    """The answer to an activation."""
    return client.post(f"/models/{NAME}/activate", {"version": version}, **options)


def rollback(client: Client) -> httpx.Response:
    """The answer to a rollback."""
    return client.post(f"/models/{NAME}/rollback")


def answering(client: Client) -> tuple[str, str]:
    """Which version answers, and what."""
    body = client.post("/predict", {"features": ROW}).json()
    return body["model_version"], body["prediction"]


def roles(client: Client) -> dict[str, str]:
    """The versions on disk by role."""
    return {item["version"]: item["role"] for item in client.get(f"/models/{NAME}").json()["versions"]}


def test_an_activated_version_answers_also_after_a_restart(configure: Configure) -> None:
    """The activated version answers at once, is described as active, and beats the configuration from then on."""
    with client_of(configure()) as client:
        assert answering(client) == ("1", ANSWERS["1"])
        answer = activate(client, "2")
        assert (answer.status_code, answer.json()) == (200, {"name": NAME, "version": "2", "earlier": ["1"]})
        assert answering(client) == ("2", ANSWERS["2"])
        assert roles(client) == {"1": "available", "2": "active", "3": "available"}
        assert client.get("/openapi.json").text.count('"model_version":"2"') > 0

    with client_of(configure()) as client:
        assert answering(client) == ("2", ANSWERS["2"])


def test_rollback_goes_back_step_by_step(configure: Configure) -> None:
    """Each rollback undoes one activation, until none is left; activating the active version again counts for none."""
    with client_of(configure()) as client:
        assert rollback(client).status_code == 409
        for version in ("2", "3", "3"):
            assert activate(client, version).status_code == 200

        assert [rollback(client).json()["version"] for _ in range(2)] == ["2", "1"]
        assert rollback(client).status_code == 409
        assert answering(client) == ("1", ANSWERS["1"])


def test_the_version_before_stays_at_hand(configure: Configure) -> None:
    """Two versions are loaded, with their metrics; the one before those is dropped, and its histograms with it."""
    with client_of(configure()) as client:
        for version in ("2", "3"):
            client.post("/predict", {"features": ROW})
            assert activate(client, version).status_code == 200
        client.post("/predict", {"features": ROW})
        found = samples(client.get("/metrics").text)
        loaded = {dict(labels)["model_version"]: value for (name, labels), value in found.items() if "loaded" in name}
        counted = {dict(labels)["model_version"] for name, labels in found if name == "ml_prediction_value_count"}
        shown = {dict(labels)["model_version"] for name, labels in found if name == "ml_drift_detected"}
        kept = {version: client.get("/drift", params={"model_version": version}).status_code for version in ANSWERS}

    assert loaded == {"1": 0.0, "2": 1.0, "3": 1.0}
    assert counted == {"2", "3"}
    assert shown == {"3"}
    assert kept == {"1": 404, "2": 200, "3": 200}


def test_a_dropped_version_leaves_the_memory(configure: Configure) -> None:
    """Two activations on, nothing holds the first version's batcher, and so neither its model nor its thread."""
    with client_of(configure()) as client:
        first = weakref.ref(client.services.registry.get("1").batcher)
        client.post("/predict", {"features": ROW})
        for version in ("2", "3"):
            assert activate(client, version).status_code == 200
        client.post("/predict", {"features": ROW})
        gc.collect()

        assert first() is None


def test_a_replay_keeps_its_version(configure: Configure) -> None:
    """An id that an earlier version answered is answered again as it was, and says by which."""
    body = {"features": ROW, "prediction_id": "before"}
    with client_of(configure()) as client:
        first = client.post("/predict", body).json()
        activate(client, "2")

        assert client.post("/predict", body).json() == first
        assert client.post("/predict", body | {"prediction_id": "after"}).json()["model_version"] == "2"


def test_what_cannot_be_activated_changes_nothing(configure: Configure) -> None:
    """Unknown names and versions, paths, malformed bodies and damaged bundles are refused with the reason."""
    config = configure()
    (config.serving.models / NAME / "2" / "reference.npz").write_bytes(b"damaged")
    (config.serving.models / NAME / "3" / "profile.json").unlink()
    with client_of(config) as client:
        for version, status, reason in (
            ("2", 409, "damaged"), ("3", 409, "missing"), ("9", 404, "has no such version"), ("../1", 404, "no such"),
        ):  # fmt: skip
            refused = activate(client, version)
            assert (refused.status_code, reason in refused.json()["detail"]) == (status, True)
        assert client.post("/models/other/activate", {"version": "2"}).status_code == 404
        assert client.post("/models/other/rollback").status_code == 404
        for body in ({}, {"version": 2}, {"version": "2", "force": True}):
            assert client.post(f"/models/{NAME}/activate", body).status_code == 422

        assert answering(client) == ("1", ANSWERS["1"])
        assert client.read(partial(read_activation, name=NAME)) is None


def test_a_choice_that_cannot_be_stored_is_not_taken(configure: Configure) -> None:
    """Without its journal the service answers 503 to an activation, and the active version stays."""
    with client_of(configure()) as client:
        client.wait_for(client.services.journal.close)

        assert activate(client, "2").status_code == 503
        assert roles(client)["1"] == "active"


def test_a_choice_that_cannot_be_loaded_does_not_stop_a_start(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the activated bundle is another by now, the configured version serves, and the log says why."""
    config = configure()
    with client_of(config) as client:
        activate(client, "2")
    manifest = config.serving.models / NAME / "2" / "bundle.yaml"
    manifest.write_bytes(manifest.read_bytes() + b"# another\n")

    with client_of(config) as client:
        assert answering(client) == ("1", ANSWERS["1"])
        assert client.get("/health/ready").status_code == 200
    assert "not the bundle that was activated" in capsys.readouterr().out


def test_changes_need_admin_and_are_kept_with_their_author(configure: Configure) -> None:
    """A key without the scope changes nothing; the history names the key of each change."""
    with client_of(configure(auth=keys("boss", "watcher"))) as client:
        assert activate(client, "2").status_code == 401
        assert activate(client, "2", headers={"x-api-key": KEYS["watcher"]}).status_code == 403
        assert activate(client, "2", headers={"x-api-key": KEYS["boss"]}).status_code == 200
        client.post(f"/models/{NAME}/rollback", headers={"x-api-key": KEYS["boss"]})
        stored = client.read(partial(read_activation, name=NAME))

    assert stored is not None
    assert [(item["act"], item["version"], item["by"]) for item in stored.history] == [
        ("activate", "2", "boss"),
        ("rollback", "1", "boss"),
    ]


async def versions_of_replicas(clients: list[httpx.AsyncClient]) -> list[str]:
    """The version with which each replica answers."""
    answers = [await client.post("/predict", json={"features": ROW}) for client in clients]
    return [answer.json()["model_version"] for answer in answers]


def test_every_replica_follows(configure: Configure, postgres: Postgres) -> None:
    """What one replica activates, another on the same store takes at its next look."""
    config = configure(store={"url": postgres.create_database(uuid4().hex)})

    async def scenario() -> list[list[str]]:
        async with running(config) as (_, one), running(config) as (app, other):
            seen = [await versions_of_replicas([one, other])]
            for act in (f"/models/{NAME}/activate", f"/models/{NAME}/rollback"):
                await one.post(act, json={"version": "2"})
                await services_of(app).activator.follow()
                seen.append(await versions_of_replicas([one, other]))
            return seen

    assert asyncio.run(scenario()) == [["1", "1"], ["2", "2"], ["1", "1"]]


def test_the_spool_knows_the_activated_version(configure: Configure, postgres: Postgres, tmp_path: Path) -> None:
    """Should the store go away next, the rows of the activated version can be spooled, and read again."""
    spool = tmp_path / "spool.db"
    store = {"url": postgres.create_database(uuid4().hex), "on_outage": "spool", "spool_path": str(spool)}
    with client_of(configure(store=store)) as client:
        assert activate(client, "2").status_code == 200

    with closing(sqlite3.connect(spool)) as connection:
        assert set(connection.execute("SELECT version FROM models")) == {("1",), ("2",)}


def test_a_snapshot_of_the_versions_never_changes(configure: Configure) -> None:
    """What another thread was given before an activation says the same after it."""

    async def scenario() -> list[tuple[str, list[str]]]:
        async with running(configure()) as (app, client):
            registry = services_of(app).registry
            before = registry.served()
            for version in ("2", "3"):
                await client.post(f"/models/{NAME}/activate", json={"version": version})
            return [(each.active.version, sorted(each.schemas)) for each in (before, registry.served())]

    assert asyncio.run(scenario()) == [("1", ["1"]), ("3", ["2", "3"])]


async def _ask(client: httpx.AsyncClient) -> tuple[int, Any]:
    answer = await client.post("/predict", json={"instances": [ROW] * 5})
    return answer.status_code, answer.json()


async def _ask_until(stop: asyncio.Event, client: httpx.AsyncClient) -> list[tuple[int, Any]]:
    seen = []
    while not stop.is_set():
        seen.append(await _ask(client))
    return seen


async def _switch_under_load(client: httpx.AsyncClient) -> list[tuple[int, Any]]:
    stop = asyncio.Event()
    callers = [asyncio.create_task(_ask_until(stop, client)) for _ in range(CALLERS)]
    seen = [await _ask(client)]
    for version in ("2", "3", "2", "1"):
        answer = await client.post(f"/models/{NAME}/activate", json={"version": version})
        assert answer.status_code == 200
        seen += [await _ask(client) for _ in range(3)]
    stop.set()
    return sum(await asyncio.gather(*callers), seen)


def test_activation_under_load_fails_nobody_and_mixes_nothing(configure: Configure) -> None:
    """With 64 callers, each answer is a 200 and wholly of the version that it names, through four activations."""

    async def scenario() -> list[tuple[int, Any]]:
        async with running(configure()) as (_, client):
            return await _switch_under_load(client)

    seen = asyncio.run(scenario())

    assert {status for status, _ in seen} == {200}
    assert {body["model_version"] for _, body in seen} == set(ANSWERS)
    for _, body in seen:
        said = {item["prediction"] for item in body["predictions"]}
        assert said == {ANSWERS[body["model_version"]]}


def test_a_rollback_of_another_version_is_refused(configure: Configure) -> None:
    """Who judged a version that no longer answers comes too late; who is in time leaves the evidence."""
    with client_of(configure()) as client:
        back = client.services.activator.rollback
        evidence: Any = {"reason": "slow"}
        for version in ("2", "3"):
            activate(client, version)
        with pytest.raises(Conflict, match="meanwhile"):
            client.wait_for(partial(back, by="probation", of="2"))
        client.wait_for(partial(back, by="probation", of="3", evidence=evidence))
        stored = client.read(partial(read_activation, name=NAME))

        assert answering(client)[0] == "2"
    assert stored is not None
    assert (stored.history[-1]["by"], stored.history[-1]["evidence"]) == ("probation", evidence)


def followed(client: Client) -> float:
    """What the replica says of the stored choice."""
    return samples(client.get("/metrics").text)["ml_activation_followed", ()]


def test_another_bundle_of_the_same_number_is_not_the_choice(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """A replica whose active version is on its disk as another bundle serves it, and says so until it is activated."""
    config = configure()
    with client_of(config) as client:
        before = followed(client)
        activate(client, "1")
    manifest = config.serving.models / NAME / "1" / "bundle.yaml"
    manifest.write_bytes(manifest.read_bytes() + b"# another\n")

    with client_of(config) as client:
        other = followed(client)
        activate(client, "1")
    with client_of(config) as client:
        again = followed(client)

    assert (before, other, again) == (1, 0, 1)
    assert capsys.readouterr().out.count("activation_not_followed") == 1


def test_a_load_that_hangs_does_not_keep_the_process(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle on a disk that does not answer: the service ends all the same."""
    monkeypatch.setattr(background, "LEAVE_S", 0.1)
    begun, answers = Event(), Event()

    def hang(*_: object) -> None:
        begun.set()
        answers.wait()

    async def scenario() -> asyncio.Task[Any]:
        async with running(configure()) as (app, _):
            monkeypatch.setattr(services_of(app).registry, "prepare", hang)
            activating = asyncio.create_task(services_of(app).activator.activate("2", by=None))
            await asyncio.to_thread(begun.wait)
        return activating

    ended = []
    service = Thread(target=lambda: ended.append(asyncio.run(scenario())), daemon=True)
    service.start()
    service.join(DEADLINE_S)
    alive = service.is_alive()
    answers.set()

    assert not alive
    assert [activating.cancelled() for activating in ended] == [True]
