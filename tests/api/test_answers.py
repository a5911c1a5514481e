"""Every answer of every operation is what ``/openapi.json`` says: status, headers, content type and body."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Connection, text

from app.api.request_guards import MAX_FAILURES
from app.store.queries import alerts, reports
from app.store.queries.alerts import Finding
from app.store.queries.replicas import database_now
from app.types import Micros, Report
from tests.api.conftest import Start
from tests.support.api.cases import CASES, GOOD, LARGE, OUTCOME, SILENCE, Case
from tests.support.api.contract import Contract
from tests.support.api.worlds import World, post, world_of
from tests.support.application import Client
from tests.support.models.tasks import Fitted

ROWS = 400


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[World]:
    """A service with drifted rows, outcomes, reports of all kinds, alerts, a silence and a pending outcome."""
    rows = [row | {"income": (row["income"] or 0.0) * 3} for row in small_models[1]["mixed"].rows[:ROWS]]
    sections = {
        "server": {"max_body_bytes": LARGE},
        "performance": {"segments": ["channel"]},
        "outcomes": {"unknown": "reject"},
        "privacy": {"subject": "user"},
    }
    with world_of(tmp_path_factory.mktemp("filled"), small_models[0], "mixed", **sections) as world:
        client = world.client
        answers = post(client, "/predict", {"instances": rows})["predictions"]
        outcomes = [{"prediction_id": answer["prediction_id"], "outcome": "good", "value": 2.0} for answer in answers]
        post(client, "/outcome", {"outcomes": outcomes})
        post(client, "/predict", {"features": GOOD, "prediction_id": "first"})
        post(client, "/outcome", OUTCOME)
        post(client, "/keys", {"name": "old"})
        ids = {report["kind"]: report["report_id"] for report in post(client, "/checks")["reports"]}
        ids |= {"prediction_id": "first", "silence_id": post(client, "/alerts/silences", SILENCE)["silence_id"]}
        yield replace(world, ids=ids | client.wait_for(partial(client.services.journal.run, _more)))


def _more(connection: Connection) -> dict[str, str]:
    """A service report, a check that failed, and an alert that fires beside one that does not yet."""
    now = database_now(connection)
    usage: Any = {
        "window": {"from": "2026-11-20T10:00:00.000000Z", "to": "2026-11-20T10:05:00.000000Z"},
        "outage": {"seconds": 12.0, "limit_s": 10.0, "reason": "connection refused"},
        "errors": [],
        "status": "warning",
    }
    service = Report("service-report", "service", "mixed", "1", now, "warning", usage)
    failed = Report(
        "failed-report",
        "drift",
        "mixed",
        "1",
        now,
        "error",
        {"role": "active", "status": "error", "errors": [{"feature": None, "reason": "no memory"}]},
    )
    for report in (service, failed):
        reports.save(connection, report)
    finding = Finding("medium", 0.2, 0.01, "the 99th percentile of the latency is high")
    later = replace(service, checked_at=Micros(now + 1))
    alerts.record(connection, later, {"store_unreachable": finding}, {})
    alerts.record(connection, later, {"latency": finding}, {"latency": 2})
    fires = alerts.latest(connection, "mixed", "1", "store_unreachable")
    waits = alerts.latest(connection, "mixed", "1", "latency")
    assert fires is not None
    assert waits is not None
    drop = alerts.latest(connection, "mixed", "1", "accuracy_drop")
    assert drop is not None
    ids = {"service": "service-report", "failed": "failed-report", "firing": fires.alert_id, "pending": waits.alert_id}
    return ids | {"drop": drop.alert_id}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[World]:
    """A service before its first row."""
    with world_of(tmp_path_factory.mktemp("empty"), small_models[0], "three") as world:
        yield world


@pytest.fixture(scope="module")
def switched(tmp_path_factory: pytest.TempPathFactory, switch_models: Path) -> Iterator[World]:
    """A service with three versions and one that is refused; the second was activated after the first."""
    (switch_models / "switch" / "9").mkdir(exist_ok=True)
    (switch_models / "switch" / "9" / "bundle.yaml").write_text("nothing")
    folder = tmp_path_factory.mktemp("switched")
    with world_of(folder, switch_models, "switch/1", serving={"shadows": ["3"]}) as world:
        post(world.client, "/models/switch/activate", {"version": "2"})
        yield world


@pytest.fixture(scope="module")
def guessed(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[World]:
    """A service whose only caller has sent too many wrong keys."""
    with world_of(tmp_path_factory.mktemp("guessed"), small_models[0], "mixed") as world:
        for number in range(MAX_FAILURES):
            world.client.get("/predictions", headers={"x-api-key": f"wrong {number}"})
        yield replace(world, ids=defaultdict(lambda: "some"))


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[World]:
    """A service whose store has lost its tables, and whose journal is closed."""
    with world_of(tmp_path_factory.mktemp("away"), small_models[0], "mixed", privacy={"subject": "user"}) as world:
        journal = world.client.services.journal
        world.client.wait_for(partial(journal.run, _lose_everything))
        world.client.wait_for(journal.close)
        yield replace(world, ids={"prediction_id": "some"})


def _lose_everything(connection: Connection) -> None:
    for table in (
        "outbox",
        "alerts",
        "silences",
        "figures",
        "reports",
        "outcomes",
        "predictions",
        "settings",
        "models",
        "api_keys",
    ):
        connection.execute(text(f"DROP TABLE IF EXISTS {table}"))


@pytest.fixture
def moody(tmp_path: Path, switch_models: Path) -> Iterator[World]:
    """A service with little patience, whose writer is busy."""
    sections = {
        "serving": {"allow_pickle": True, "runtime": "sklearn"},
        "server": {"deadline": "300ms", "receive_timeout": "50ms"},
    }
    with world_of(tmp_path, switch_models, "moody/1", **sections) as world:
        done = Event()
        journal, busy = world.client.services.journal, []

        async def keep_busy() -> None:
            busy.append(asyncio.create_task(journal.run(lambda _: done.wait())))

        world.client.wait_for(keep_busy)
        yield world
        done.set()


def test_the_published_examples_are_what_their_schemas_say(mixed: Client) -> None:
    """Every answer has an example, and every example is such an answer."""
    contract = Contract(mixed.get("/openapi.json").json())

    mistakes = {where: contract.mistakes(schema, example) for where, schema, example in contract.examples()}

    assert {where: found for where, found in mistakes.items() if found} == {}
    assert len(mistakes) > 100


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.operation} {case.status}")
def test_every_answer_is_what_its_schema_says(case: Case, request: pytest.FixtureRequest) -> None:
    """The status is the expected one, and headers, content type and body are those that are described for it."""
    world: World = request.getfixturevalue(case.world)

    answer = world.call(case)

    assert answer.status_code == case.status, answer.text
    assert world.contract.violations(case.operation, answer) == []


@pytest.mark.parametrize("rows", [10, 300])
@pytest.mark.parametrize("name", ["price", "three", "blank"])
def test_the_reports_of_every_task(start: Start, fitted: dict[str, Fitted], name: str, rows: int) -> None:
    """With too few rows and with enough, for numbers and for classes, answers and reports are what is described."""
    client = start(name)
    contract = Contract(client.get("/openapi.json").json())
    data = fitted[name].data
    made = client.post("/predict", {"instances": fitted[name].rows[:rows]})
    ids = [answer["prediction_id"] for answer in made.json()["predictions"]]
    outcomes = [{"prediction_id": id_, "outcome": label} for id_, label in zip(ids, data["y"].tolist(), strict=False)]
    answers = {
        "POST /predict": made,
        "POST /outcome": client.post("/outcome", {"outcomes": outcomes}),
        "POST /checks": client.post("/checks"),
        **{f"GET {path}": client.get(path) for path in ("/drift", "/performance", "/models", "/alerts")},
    }

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert {name: contract.violations(name, answer) for name, answer in answers.items()} == {
        name: [] for name in answers
    }


@pytest.mark.parametrize("place", [(), ("features", "income"), ("prediction", "current"), ("limits",), ("errors",)])
def test_a_field_that_is_not_described_is_found(mixed: Client, place: tuple[str, ...]) -> None:
    """One more field anywhere in an answer is a violation, and so is one that is missing."""
    contract = Contract(mixed.get("/openapi.json").json())
    answer = contract.operations["GET /drift"]["responses"]["200"]["content"]["application/json"]
    more, less = (deepcopy(answer["example"]) for _ in range(2))
    part, rest = more, less
    for key in place:
        part, rest = part[key], rest[key]
    if isinstance(part, list):
        part.append({"more": 1})
        rest.append({})
    else:
        part["more"] = 1
        del rest[next(iter(rest))]

    assert contract.mistakes(answer["schema"], answer["example"]) == []
    assert contract.mistakes(answer["schema"], more) != []
    assert contract.mistakes(answer["schema"], less) != []


def test_every_status_of_every_operation_is_provoked(mixed: Client) -> None:
    """No operation and no status is described that no case provokes; of the unexpected one failure stands for all.

    A foreign host comes before every operation: test_trusted_hosts provokes it. Health has no key, and no 429 for one.
    """
    contract = Contract(mixed.get("/openapi.json").json())
    unexpected = {(operation, status) for operation in contract.operations for status in (400, 500)}
    unexpected -= {("POST /predict", 500)}

    assert {(case.operation, case.status) for case in CASES} == contract.statuses - unexpected
