"""Champion and challenger side by side: the same rows, the same outcomes, and no answer touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from app.config.settings import Config
from app.errors import BundleError
from app.main import create_app
from app.serving import shadow
from app.store.database import open_database
from app.store.queries.alerts import firing
from app.store.queries.windows import read_window
from tests.support.application import Client, client_of, make_config, samples, watch_elsewhere
from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.models.bundles import rewrite
from tests.support.models.faulty import RAISES, build_moody
from tests.support.models.versions import NAME, ROW, build_versions
from tests.support.rows import answers_of

Configure: TypeAlias = Callable[..., Config]
ROWS = 300
MANY = 6_000
"""More than a shadow deals with before the end reaches it."""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with three versions of one, and a fourth that misbehaves."""
    models = tmp_path_factory.mktemp("versions")
    build_versions(models)
    build_moody(models, NAME, "4")
    return models


@pytest.fixture
def configure(tmp_path: Path, versions: Path) -> Configure:
    """Makes configurations that name version 1 and a shadow."""

    def make(shadow: str, *, allow_pickle: bool = True, **store: str) -> Config:
        serving = {"shadows": [shadow], "allow_pickle": allow_pickle}
        return make_config(tmp_path, versions, f"{NAME}/1", serving=serving, store=store)

    return make


@pytest.fixture
def client(configure: Configure, store_url: str) -> Iterator[Client]:
    """The application on either database with version 2 in the shadow, which says the opposite of version 1."""
    with client_of(configure("2", url=store_url)) as client:
        yield client


def rows_of(client: Client, version: str) -> dict[str, float]:
    """What became of a shadow's rows."""
    found = samples(client.get("/metrics").text)
    wanted = {"model_name": NAME, "model_version": version}
    return {
        dict(labels)["state"]: value
        for (name, labels), value in found.items()
        if name == "ml_shadow_rows_total" and wanted.items() <= dict(labels).items()
    }


def wait_for(client: Client, version: str, rows: int) -> dict[str, float]:
    """What became of a shadow's rows, once it has dealt with so many."""
    wait_until(lambda: sum(rows_of(client, version).values()) >= rows, lambda: rows_of(client, version))
    return rows_of(client, version)


def ask(client: Client, first: float = 2.0, number: int = ROWS) -> dict[str, str]:
    """The ids and labels of one request with so many rows, of which the first may be special."""
    rows = [ROW | {"a": first}, *[ROW | {"a": 2.0 + place / number} for place in range(1, number)]]
    answer = client.post("/predict", {"instances": rows})
    assert answer.status_code == 200
    return {given["prediction_id"]: given["prediction"] for given in answer.json()["predictions"]}


def test_a_shadow_is_compared_and_may_become_the_champion(client: Client) -> None:
    """It is judged by the same outcomes; a wrong champion alone is an alert; activated, a shadow is no shadow."""
    answers = ask(client)
    client.post("/outcome", {"outcomes": [{"prediction_id": each, "outcome": "no"} for each in answers]})
    assert wait_for(client, "2", ROWS) == {"stored": ROWS, "dropped": 0.0, "failed": 0.0}
    assert set(answers.values()) == {"yes"}

    for version in ("1", "2"):
        checked = client.post("/checks", params={"model_version": version})
        assert checked.status_code == 200, checked.text
    champion, shadow = (client.get("/performance", params={"model_version": each}).json() for each in "12")
    assert (champion["role"], champion["realised"]["metrics"]["accuracy"]["value"]) == ("active", 0.0)
    assert (shadow["role"], shadow["realised"]["metrics"]["accuracy"]["value"]) == ("shadow", 1.0)
    assert shadow["beside"]["1"] | {"advantage": shadow["beside"]["1"]["advantage"]["value"]} == {
        "rows": ROWS, "agreement": 0.0, "mean_difference": None, "labelled": ROWS, "advantage": 1.0,
    }  # fmt: skip
    drift = client.get("/drift", params={"model_version": "2"}).json()
    assert (drift["role"], drift["window"]["rows"]) == ("shadow", ROWS)
    assert {alert["rule"] for alert in client.get("/alerts").json()["alerts"]} >= {"accuracy_drop"}

    assert roles(client) == {"1": "active", "2": "shadow", "3": "available", "4": "available"}
    assert client.post(f"/models/{NAME}/activate", {"version": "2"}).status_code == 200
    assert roles(client)["2"] == "active"
    assert set(ask(client).values()) == {"no"}
    assert client.post(f"/models/{NAME}/rollback").status_code == 200
    assert roles(client)["2"] == "shadow"
    again = ask(client)
    wait_for(client, "2", 2 * ROWS)
    assert set(client.read(lambda connection: answers_of(connection, "2", list(again)))) == set(again)
    assert sum(rows_of(client, "2").values()) == 2 * ROWS


def roles(client: Client) -> dict[str, str]:
    """The role of each version."""
    return {each["version"]: each["role"] for each in client.get(f"/models/{NAME}").json()["versions"]}


def test_a_shadow_wakes_nobody(configure: Configure) -> None:
    """A shadow that is wrong about everything has a report that says so, and no alert."""
    config = configure("2")
    watch_elsewhere(config.store.url.get_secret_value())
    with client_of(config) as client:
        answers = ask(client)
        client.post("/outcome", {"outcomes": [{"prediction_id": each, "outcome": "yes"} for each in answers]})
        wait_for(client, "2", ROWS)

        client.post("/checks", params={"model_version": "2"})

        assert client.get("/performance", params={"model_version": "2"}).json()["status"] == "degraded"
        assert client.get("/alerts").json()["alerts"] == []
        assert list(client.read(lambda connection: firing(connection, NAME, "2"))) == []


def test_what_a_shadow_does_touches_no_answer(configure: Configure) -> None:
    """A row on which the shadow raises is answered like any other; the shadow's other rows are stored."""
    with client_of(configure("4")) as client:
        answers = ask(client, first=RAISES)

        assert len(answers) == ROWS
        assert wait_for(client, "4", ROWS) == {"stored": ROWS - 1, "dropped": 0.0, "failed": 1.0}
        assert client.get("/health/ready").status_code == 200


def test_what_waits_at_the_end_is_stored(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows answered right before the end have their shadow's answer; a row that was asked for twice has one."""
    monkeypatch.setattr(shadow, "STOP_S", DEADLINE_S)
    with client_of(configure("2")) as client:
        for _ in range(2):
            client.post("/predict", {"features": ROW, "prediction_id": "again"})
        wait_for(client, "2", 1)  # so that its load is no part of what follows
        answers = ask(client, number=MANY)

    database = open_database(f"sqlite:///{tmp_path / 'plumbline.db'}")
    with database.readers.connect() as connection:
        assert set(answers_of(connection, "2", ["again", *answers])) == {"again", *answers}
        assert read_window(connection, NAME, "2", rows=2 * MANY, hours=0, role="shadow").rows == MANY + 1
    database.close()


def test_a_shadow_that_cannot_load_stays_away(configure: Configure) -> None:
    """Its rows fail and are counted; the service is ready and answers."""
    with client_of(configure("4", allow_pickle=False)) as client:
        ask(client)

        assert wait_for(client, "4", 128)["failed"] >= 128
        assert client.get("/health/ready").status_code == 200


def test_a_shadow_of_other_rows_is_refused_at_the_start(configure: Configure, versions: Path) -> None:
    """A shadow with other features or none on disk stops the start with the reason."""
    with pytest.raises(BundleError, match=r"5/bundle.yaml: is missing"):
        create_app(configure("5"))
    other = versions / NAME / "6"
    other.mkdir()
    (other / "bundle.yaml").write_bytes((versions / NAME / "2" / "bundle.yaml").read_bytes())
    rewrite(other, version="6", features=[{"name": "a", "type": "numeric"}])
    with pytest.raises(BundleError, match=r"cannot be a shadow of version 1: its features differ in b .*, c "):
        create_app(configure("6"))
