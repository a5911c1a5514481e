"""What becomes of a version's alerts when another one answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.database import Connection, Database
from app.store.queries import alerts, reports
from app.store.queries.alerts import Finding, record, resolve_others
from app.store.queries.replicas import database_now
from app.types import SECOND, Micros, Report
from tests.support.application import Client, client_of, make_config
from tests.support.deadlines import wait_until
from tests.support.models.versions import NAME, ROW, build_versions
from tests.support.rows import EMPTY_BODY

FINDING = Finding("low", 0.3, 0.01, "a drifted", ("a",))
LATER = 60 * SECOND


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A connection that writes."""
    with database.writer.connect() as connection:
        yield connection


def fire(connection: Connection, version: str, *, needed: int = 1, name: str = "m") -> Micros:
    """Let a rule hold for the first time on a version; when that was."""
    with connection.begin():
        now = database_now(connection)
        report = Report(f"r{name}{version}{needed}", "drift", name, version, now, "drift", EMPTY_BODY)
        reports.save(connection, report)
        rule = "feature_drift" if needed == 1 else "label_coverage"
        record(connection, report, {rule: FINDING}, {rule: needed})
    return now


def test_alerts_of_versions_that_nobody_watches_end(connection: Connection) -> None:
    """What fires on them, or on another model, is resolved and told; what is pending passes; the others go on."""
    for version in ("1", "2", "3"):
        at = fire(connection, version)
    fire(connection, "1", needed=3)
    fire(connection, "2", name="another")

    with connection.begin():
        changes = resolve_others(connection, "m", {"2", "3"}, now=Micros(at + LATER))
        again = resolve_others(connection, "m", {"2", "3"}, now=Micros(at + 2 * LATER))
        open_ones = [len(alerts.still_open(connection, "m", version)) for version in ("1", "2", "3")]
        [ended] = alerts.shown(connection, "m", "1")

    assert [(change.event, change.alert.model_name, change.alert.model_version) for change in changes] == [
        ("resolved", "m", "1"),
        ("resolved", "another", "2"),
    ]
    assert {change.because for change in changes} == {"This version no longer answers."}
    assert (again, open_ones) == ([], [0, 1, 1])
    assert (ended.resolved_at, ended.finding) == (at + LATER, FINDING)


def wrong_answers(client: Client) -> None:
    """Rows whose outcomes contradict the active version."""
    answer = client.post("/predict", {"instances": [ROW] * 200}).json()["predictions"]
    flip = {"yes": "no", "no": "yes"}
    outcomes = [{"prediction_id": each["prediction_id"], "outcome": flip[each["prediction"]]} for each in answer]
    client.post("/outcome", {"outcomes": outcomes})


def states(client: Client, version: str) -> set[str]:
    """The states of a version's alerts."""
    found = client.get("/alerts", params={"model_version": version}).json()["alerts"]
    return {alert["state"] for alert in found}


@pytest.mark.parametrize("shadows", [[], ["1"]])
def test_another_version_ends_them(tmp_path: Path, shadows: list[str]) -> None:
    """After an activation the alerts of the version before are resolved, and a check of it raises none.

    So it is too where the version before is a shadow from then on.
    """
    build_versions(tmp_path / "models")
    often = {"every": "3s", "window": {"rows": 5000}}
    beside = {"shadows": shadows, "allow_pickle": True}
    config = make_config(tmp_path, tmp_path / "models", f"{NAME}/1", serving=beside, drift=often, performance=often)
    with client_of(config) as client:
        wrong_answers(client)
        client.post("/checks", params={"model_version": "1"})
        before = states(client, "1")
        client.post(f"/models/{NAME}/activate", {"version": "2"})
        wait_until(lambda: "firing" not in states(client, "1"))
        after = states(client, "1")
        client.post("/checks", params={"model_version": "1"})

        assert ("firing" in before, after, states(client, "1")) == (True, {"resolved"}, {"resolved"})
