"""Every answer of every operation is what ``/openapi.json`` says: status, headers, content type and body."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, text

from app.api.request_guards import MAX_FAILURES
from app.store.queries import alerts, reports
from app.store.queries.alerts import Finding
from app.store.queries.replicas import database_now
from app.types import Micros, Report
from tests.api.conftest import Start
from tests.support.api.contract import Contract
from tests.support.application import Client, client_of, make_config
from tests.support.models.faulty import RAISES
from tests.support.models.tasks import Fitted
from tests.support.models.versions import ROW

MOODY = {**ROW, "a": RAISES}
GOOD = {"age": 41, "income": 52_000.0, "channel": "web", "member": True}
ADMIN, PREDICT_ONLY, READ_ONLY = "a" * 40, "p" * 40, "r" * 40
SCOPES = {ADMIN: ["admin", "metrics"], PREDICT_ONLY: ["predict"], READ_ONLY: ["read"]}
LARGE = 100_000
"""Most bytes of a body."""
ROWS = 400


@dataclass(frozen=True)
class Case:
    """A call in one of the worlds, and the status that it must have.

    Attributes:
        path: by default that of the operation; ``{prediction_id}`` and others are filled in.
        key: None sends none.
    """

    operation: str
    status: int
    body: object = None
    path: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    key: str | None = ADMIN
    world: str = "filled"


ONE = {"features": GOOD}
OUTCOME = {"prediction_id": "first", "outcome": "good"}
SILENCE = {"matcher": {"rule": "feature_drift"}, "duration": "1h", "reason": "known"}
NOBODY = {"model_version": "nobody"}
FILLED = [
    Case("POST /predict", 200, ONE),
    Case("POST /predict", 200, {"instances": [GOOD, GOOD]}),
    Case("POST /predict", 404, ONE, params=NOBODY),
    Case("POST /predict", 409, {"features": {**GOOD, "age": 42}, "prediction_id": "first"}),
    Case("POST /predict", 413, content=b" " * (LARGE + 1)),
    Case("POST /predict", 415, content=b"{}", headers={"content-type": "text/plain"}),
    Case("POST /predict", 422, {"features": {**GOOD, "age": "old", "more": 1}}),
    Case("POST /outcome", 200, OUTCOME),
    Case("POST /outcome", 200, {"outcomes": [OUTCOME, {"prediction_id": "nobody", "outcome": "good"}, 1]}),
    Case("POST /outcome", 404, {"prediction_id": "nobody", "outcome": "good"}),
    Case("POST /outcome", 409, {"prediction_id": "first", "outcome": "bad"}),
    Case("POST /outcome", 413, content=b" " * (LARGE + 1)),
    Case("POST /outcome", 415, content=b"{}", headers={"content-type": "text/plain"}),
    Case("POST /outcome", 422, {"prediction_id": "first", "outcome": 7}),
    Case("GET /predictions/{prediction_id}", 200),
    Case("GET /predictions/{prediction_id}", 404, path="/predictions/nobody"),
    Case("GET /predictions", 200, params={"limit": "3"}),
    Case("GET /predictions", 200, params={"format": "jsonl"}),
    Case("GET /predictions", 200, params={"format": "csv"}),
    Case("GET /predictions", 200, params={"format": "parquet"}),
    Case("GET /predictions", 422, params={"limit": "0", "from": "yesterday"}),
    Case("DELETE /predictions", 200, params={"subject": "nobody"}),
    Case("DELETE /predictions", 409, params={"subject": "nobody"}, world="empty"),
    Case("DELETE /predictions", 422),
    Case("GET /outcomes", 200),
    Case("GET /outcomes", 422, params={"status": "done"}),
    Case("GET /drift", 200),
    Case("GET /drift", 200, world="empty"),
    Case("GET /drift", 404, params=NOBODY),
    Case("GET /performance", 200),
    Case("GET /performance", 200, world="empty"),
    Case("GET /performance", 404, params=NOBODY),
    Case("GET /drift/history", 200),
    Case("GET /drift/history", 200, params={"feature": "income"}),
    Case("GET /drift/history", 404, params=NOBODY),
    Case("GET /drift/history", 404, params={"feature": "nobody"}),
    Case("GET /drift/history", 422, params={"limit": "many"}),
    Case("GET /performance/history", 200),
    Case("GET /performance/history", 404, params=NOBODY),
    Case("GET /performance/history", 422, params={"cursor": "?"}),
    Case("GET /reports/{report_id}", 200, path="/reports/{drift}"),
    Case("GET /reports/{report_id}", 200, path="/reports/{performance}"),
    Case("GET /reports/{report_id}", 200, path="/reports/{service}"),
    Case("GET /reports/{report_id}", 200, path="/reports/{failed}"),
    Case("GET /reports/{report_id}", 404, path="/reports/nobody"),
    Case("GET /reports/{report_id}.html", 200, path="/reports/{drift}.html"),
    Case("GET /reports/{report_id}.html", 404, path="/reports/nobody.html"),
    Case("POST /checks", 200),
    Case("POST /checks", 404, params=NOBODY),
    Case("GET /alerts", 200),
    Case("GET /alerts", 200, world="empty"),
    Case("GET /alerts", 404, params=NOBODY),
    Case("GET /alerts", 422, params={"state": "done"}),
    Case("GET /alerts/silences", 200),
    Case("GET /alerts/silences", 422, params={"limit": "0"}),
    Case("POST /alerts/{alert_id}/acknowledge", 200, path="/alerts/{firing}/acknowledge"),
    Case("POST /alerts/{alert_id}/acknowledge", 404, path="/alerts/nobody/acknowledge"),
    Case("POST /alerts/{alert_id}/acknowledge", 409, path="/alerts/{pending}/acknowledge"),
    Case("POST /alerts/silences", 200, SILENCE),
    Case("POST /alerts/silences", 404, SILENCE, params=NOBODY),
    Case("POST /alerts/silences", 422, {"matcher": {"rule": "nobody"}, "duration": "1h", "reason": "known"}),
    Case("POST /alerts/silences", 422, {"matcher": {}, "duration": "long"}),
    Case("DELETE /alerts/silences/{silence_id}", 200),
    Case("DELETE /alerts/silences/{silence_id}", 404, path="/alerts/silences/nobody"),
    Case("GET /models", 200),
    Case("GET /models", 200, world="switched"),
    Case("GET /models/{name}", 200, path="/models/mixed"),
    Case("GET /models/{name}", 404, path="/models/nobody"),
    Case("POST /models/{name}/activate", 200, {"version": "3"}, path="/models/switch/activate", world="switched"),
    Case("POST /models/{name}/activate", 404, {"version": "nobody"}, path="/models/mixed/activate"),
    Case("POST /models/{name}/activate", 409, {"version": "9"}, path="/models/switch/activate", world="switched"),
    Case("POST /models/{name}/activate", 422, {"version": 1}, path="/models/mixed/activate"),
    Case("POST /models/{name}/rollback", 200, path="/models/switch/rollback", world="switched"),
    Case("POST /models/{name}/rollback", 404, path="/models/nobody/rollback"),
    Case("POST /models/{name}/rollback", 409, path="/models/mixed/rollback"),
    Case("POST /keys", 200, {"name": "new", "expires": "90d"}),
    Case("POST /keys", 409, {"name": "key0"}),
    Case("POST /keys", 422, {"name": "a b"}),
    Case("GET /keys", 200),
    Case("GET /keys", 422, params={"limit": "0"}),
    Case("DELETE /keys/{name}", 200, path="/keys/old"),
    Case("DELETE /keys/{name}", 404, path="/keys/nobody"),
    Case("DELETE /keys/{name}", 409, path="/keys/key0"),
    Case("GET /health/live", 200),
    Case("GET /health/ready", 200),
    Case("GET /metrics", 200),
    Case("GET /metrics", 200, headers={"accept": "application/openmetrics-text; version=1.0.0"}),
]
"""Calls of a service with rows, reports and alerts, one that is empty, and one with versions to choose from."""
AWAY = [
    Case("POST /predict", 503, ONE, world="away"),
    Case("POST /outcome", 503, OUTCOME, world="away"),
    Case("GET /predictions/{prediction_id}", 503, world="away"),
    Case("GET /predictions", 503, world="away"),
    Case("DELETE /predictions", 503, params={"subject": "nobody"}, world="away"),
    Case("GET /outcomes", 503, world="away"),
    Case("GET /drift", 503, world="away"),
    Case("GET /performance", 503, world="away"),
    Case("GET /drift/history", 503, world="away"),
    Case("GET /performance/history", 503, world="away"),
    Case("GET /reports/{report_id}", 503, path="/reports/some", world="away"),
    Case("GET /reports/{report_id}.html", 503, path="/reports/some.html", world="away"),
    Case("POST /checks", 503, world="away"),
    Case("GET /alerts", 503, world="away"),
    Case("GET /alerts/silences", 503, world="away"),
    Case("POST /alerts/{alert_id}/acknowledge", 503, path="/alerts/some/acknowledge", world="away"),
    Case("POST /alerts/silences", 503, SILENCE, world="away"),
    Case("DELETE /alerts/silences/{silence_id}", 503, path="/alerts/silences/some", world="away"),
    Case("POST /models/{name}/activate", 503, {"version": "1"}, path="/models/mixed/activate", world="away"),
    Case("POST /models/{name}/rollback", 503, path="/models/mixed/rollback", world="away"),
    Case("POST /keys", 503, {"name": "new"}, world="away"),
    Case("GET /keys", 503, world="away"),
    Case("DELETE /keys/{name}", 503, path="/keys/some", world="away"),
    Case("GET /health/live", 503, world="away"),
    Case("GET /health/ready", 503, world="away"),
]
"""Calls of a service without a store."""
SLOW = [
    Case("POST /predict", 500, {"features": MOODY}, world="moody"),
    Case("POST /predict", 408, world="moody"),
    Case("POST /predict", 504, {"features": ROW}, world="moody"),
    Case("POST /outcome", 408, world="moody"),
    Case("POST /checks", 504, world="moody"),
    Case("POST /outcome", 504, {"prediction_id": "some", "outcome": "no"}, world="moody"),
]
"""Calls of a service with little patience and a model that fails on one row."""
OPEN = ("GET /health/live", "GET /health/ready")
GUARDED = sorted({case.operation for case in FILLED} - set(OPEN))
WITHOUT_KEY = [
    replace(next(case for case in FILLED if case.operation == operation), status=status, key=key, world="filled")
    for operation in GUARDED
    for status, key in ((401, None), (403, PREDICT_ONLY if operation != "POST /predict" else READ_ONLY))
]
"""The same calls without a key, and with one that lacks the scope."""
GUESSED = [replace(case, status=429, world="guessed") for case in WITHOUT_KEY if case.status == 401]
"""The same calls without a key, from an address that has sent many wrong ones."""
UNKNOWN = [
    replace(next(case for case in FILLED if case.operation == operation), status=422, params={"nonsense": "1"})
    for operation in sorted({case.operation for case in FILLED})
]
"""The same calls with a query parameter that no route takes."""
CASES = [*FILLED, *AWAY, *SLOW, *WITHOUT_KEY, *GUESSED, *UNKNOWN]


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
    return {"service": "service-report", "failed": "failed-report", "firing": fires.alert_id, "pending": waits.alert_id}


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
