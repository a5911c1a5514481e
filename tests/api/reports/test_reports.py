"""``GET /reports`` as a list and ``GET /summary``, through the whole application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.store.queries import reports
from app.store.queries.replicas import database_now
from app.store.queries.reports import SLOT_S, Figure
from app.types import SECOND, Micros
from tests.api.endpoints.test_alerts import send
from tests.support.application import Client, client_of, make_config
from tests.support.deadlines import wait_until
from tests.support.models.tasks import Fitted

Small = tuple[Path, dict[str, Fitted]]


@pytest.fixture
def client(tmp_path: Path, small_models: Small) -> Iterator[Client]:
    """A service over three numbers and the labels no and yes; one batch fills its windows."""
    window = {"window": {"rows": 200, "hours": 0}}
    with client_of(make_config(tmp_path, small_models[0], "text", drift=window, performance=window)) as client:
        yield client


def ids(answer: Any) -> list[str]:
    """The ids of the reports of a page."""
    return [item["report_id"] for item in answer.json()["items"]]


def test_reports_are_listed(client: Client, small_models: Small) -> None:
    """The latest comes first; kind, status, version and time filter; pages add up to the whole."""
    send(client, small_models[1]["text"], shift=3.0, wrong=False)
    made = [each["report_id"] for _ in range(3) for each in client.post("/checks").json()["reports"]]
    listed = client.get("/reports").json()["items"]
    first = client.get("/reports?limit=4").json()
    rest = client.get("/reports", params={"limit": 4, "cursor": first["next"]}).json()
    middle = listed[2]["checked_at"]

    assert sorted(made) == sorted(ids(client.get("/reports")))
    assert [item["report_id"] for item in listed] == sorted(made, reverse=True)
    assert first["items"] + rest["items"] == listed
    assert rest["next"] is None
    assert {item["kind"] for item in client.get("/reports?kind=drift").json()["items"]} == {"drift"}
    assert len(ids(client.get("/reports?kind=drift&status=drift"))) == 3
    assert ids(client.get("/reports?status=degraded")) == []
    assert ids(client.get("/reports?model_version=2")) == []
    late = client.get("/reports", params={"from": middle}).json()["items"]
    early = client.get("/reports", params={"to": middle}).json()["items"]
    assert late + early == listed
    assert 0 < len(late) < len(listed)
    assert client.get(f"/reports/{made[0]}").json()["kind"] in ("drift", "performance")


@pytest.mark.parametrize("query", ["kind=nobody", "status=nobody", "from=yesterday", "limit=0", "versoin=1"])
def test_a_wrong_filter_is_refused(client: Client, query: str) -> None:
    """A filter that could match nothing is a 422, and so is one that is misspelled."""
    assert client.get(f"/reports?{query}").status_code == 422


def test_an_empty_service_says_what_is_missing(client: Client) -> None:
    """Before the first request counts are 0 and figures null, and each gap has its reason."""
    found = client.get("/summary").json()

    assert (found["requests"], found["success_share"], found["share_under_target"]) == (0, None, None)
    assert found["latency_seconds"] == {"p50": None, "p95": None, "p99": None, "max": None}
    assert (found["metrics"], found["alerts"], found["drifted_features"]) == ({}, {}, [])
    assert [each.partition(":")[0] for each in found["missing"]] == ["requests", "metrics", "drifted_features"]


def test_a_summary_has_what_happened(client: Client, small_models: Small) -> None:
    """Requests, refusals, latency, metrics, alerts and drifts are there at once, and agree with the reports."""
    fitted = small_models[1]["text"]
    send(client, fitted, shift=3.0, wrong=True)
    reports = {each["kind"]: each["report_id"] for each in client.post("/checks").json()["reports"]}
    for _ in range(7):
        client.post("/predict", {"features": fitted.rows[0]})
    client.post("/predict", {"features": {}})
    drift = client.get(f"/reports/{reports['drift']}").json()
    accuracy = client.get("/performance").json()["realised"]["metrics"]["accuracy"]["value"]
    found = client.get("/summary?days=1").json()
    latency = found["latency_seconds"]

    assert (found["requests"], found["refused"], found["failed"]) == (9, 1, 0)
    assert found["success_share"] == pytest.approx(8 / 9)
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert 0 <= found["share_under_target"] <= 1
    assert isinstance(accuracy, float)
    assert found["metrics"]["accuracy"] == dict.fromkeys(("average", "min", "max", "last"), accuracy)
    assert found["drifted_features"] == drift["drifted_features"] != []
    firing = [item["rule"] for item in client.get("/alerts?state=firing").json()["items"]]
    assert found["alerts"] == dict.fromkeys(sorted(firing), 1)
    assert found["missing"] == []
    assert client.get("/summary?days=1&model_version=1").json() | {"to": ""} == found | {"to": ""}


def test_each_request_counts_once(client: Client, small_models: Small) -> None:
    """Counts that went to the store meanwhile are neither lost nor counted twice."""
    fitted = small_models[1]["text"]
    services = client.services
    for number in range(1, 4):
        client.post("/predict", {"features": fitted.rows[0]})

        assert client.get("/summary").json()["requests"] == number
        client.wait_for(lambda: services.counts.save(services.journal))
        assert client.get("/summary").json()["requests"] == number


def test_older_requests_are_not_counted(client: Client) -> None:
    """What happened before the time that is asked for is not in its figures."""

    def earlier(connection: Any) -> None:
        now = database_now(connection)
        for slots in (2, 300):
            old = Micros(now - slots * SLOT_S * SECOND)
            reports.add_figures(connection, "text", "1", {"requests.refused": Figure(slots)}, at=old)

    client.wait_for(lambda: client.services.journal.run(earlier))
    asked = ("minutes=5", "minutes=15", "days=1", "days=2")

    assert [client.get(f"/summary?{query}").json()["requests"] for query in asked] == [0, 2, 2, 302]


def test_requests_over_time_are_those_of_the_summary(client: Client, small_models: Small) -> None:
    """Each request is in the part of the time in which it came, those that are not stored yet in the last one."""

    def earlier(connection: Any) -> None:
        old = Micros(database_now(connection) - 20 * 3600 * SECOND)
        reports.add_figures(connection, "text", "1", {"requests.refused": Figure(7), "drift.a": Figure(1)}, at=old)

    client.wait_for(lambda: client.services.journal.run(earlier))
    client.post("/predict", {"features": small_models[1]["text"].rows[0]})
    steps = client.get("/summary/history?points=12").json()["items"]
    last = steps[-1]

    assert len(steps) == 12
    assert [step["to"] for step in steps[:-1]] == [step["from"] for step in steps[1:]]
    assert sum(step["requests"] for step in steps[:-1]) == sum(step["refused"] for step in steps) == 7
    assert (last["requests"], last["refused"], last["share_under_target"] is not None) == (1, 0, True)
    assert 0 < last["latency_seconds"]["p50"] <= last["latency_seconds"]["max"]
    assert all(step["latency_seconds"]["p99"] is None for step in steps[:-1])


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z&points=10", 10),
        ("from=2020-01-01T00:00:00Z&to=2020-01-01T00:07:00Z", 2),
        ("from=2020-01-02T00:00:00Z&to=2020-01-01T00:00:00Z", 0),
        ("from=0001-01-01T00:00:00Z&points=500", 500),
        ("from=9998-01-01T00:00:00Z", 0),
    ],
)
def test_a_time_without_requests_has_zeros(client: Client, query: str, number: int) -> None:
    """Whatever time is asked for, there are at most so many parts, each five minutes or more."""
    client.post("/predict", {"features": {}})
    steps = client.get(f"/summary/history?{query}").json()["items"]

    assert number * 0.9 <= len(steps) <= number
    assert sum(step["requests"] for step in steps[:-1]) == 0


def test_a_summary_needs_one_length(client: Client) -> None:
    """Minutes and days at once are refused, like a length of nothing."""
    for query in ("minutes=5&days=1", "minutes=0", "days=0", "days=x"):
        assert client.get(f"/summary?{query}").status_code == 422


def test_months_are_read_in_a_moment(client: Client) -> None:
    """Ninety busy days take two seconds at most, and other callers are answered meanwhile."""
    slots, names = 90 * 288, [f"latency.{each}" for each in (0.001, 0.002, 0.005, 0.01)]

    def fill(connection: Any) -> None:
        now = reports.slot_of(database_now(connection))
        insert = "INSERT INTO figures VALUES ('text', '1', ?, ?, 10, 0.0, 0.0, 0.01, 0.0)"
        rows = [(now - slot * SLOT_S * SECOND, name) for slot in range(1, slots) for name in names]
        connection.connection.driver_connection.executemany(insert, rows)

    client.wait_for(lambda: client.services.journal.run(fill))
    answer = client.get("/summary?days=90")

    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() < 2 * 10  # a busy machine is ten times slower


def test_alerts_since_a_moment(client: Client, small_models: Small) -> None:
    """``from`` gives the alerts that began at that time or later, those that have ended too."""
    fitted = small_models[1]["text"]
    send(client, fitted, shift=0.0, wrong=True)
    client.post("/checks")
    began = client.get("/alerts?rule=accuracy_drop").json()["items"][0]["since"]
    send(client, fitted, shift=0.0, wrong=False)
    client.post("/checks")
    wait_until(lambda: client.get("/alerts?rule=accuracy_drop&state=resolved").json()["items"] != [])

    def since(moment: str) -> list[str]:
        found = client.get("/alerts", params={"rule": "accuracy_drop", "from": moment}).json()["items"]
        return [item["state"] for item in found]

    assert since(began) == ["resolved"]
    assert since(client.get("/performance").json()["checked_at"]) == []
    assert client.get("/alerts?from=yesterday").status_code == 422
