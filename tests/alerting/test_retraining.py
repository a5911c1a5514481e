"""Requests for a new model: when they are made, how often, and what they say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.alerting.retraining import NAME, Retraining
from app.config.loader import load_config
from app.config.settings import Config
from app.errors import ConfigError
from app.store.database import Connection, Database, open_database
from app.store.migrate import upgrade
from app.store.queries import outbox, reports
from app.store.queries.outbox import Action
from app.types import SECOND, Micros, Report, Task
from tests.support.alerting.reports import drift_body, performance_body
from tests.support.processes import ROOT, Postgres

START = Micros(1_790_000_000 * SECOND)
HOUR = 3600
Ask = Callable[..., list[Action]]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "retraining.md").read_text(encoding="utf-8"), re.DOTALL)


def retraining(**settings: Any) -> Retraining:
    """What asks a webhook."""
    config = Config.model_validate({"alerts": {"retrain": {"url": "https://host/hook", **settings}}})
    return Retraining(config.alerts.retrain, "https://plumbline.example.com", config.drift.retrain_share)


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A connection that writes."""
    with database.writer.connect() as connection:
        yield connection


@pytest.fixture
def ask(connection: Connection) -> Ask:
    """Saves a report, some hours after the start, and gives what was asked for by then, the latest first."""
    count = 0

    def run(
        act: Retraining, body: Any, hours: float = 0, *, kind: str = "drift", status: str = "drift"
    ) -> list[Action]:
        nonlocal count
        count += 1
        at = Micros(START + round(hours * HOUR * SECOND) + count)
        report = Report(f"r{count}", kind, "m", "1", at, status, body)
        with connection.begin():
            reports.save(connection, report)
            act.request_if_needed(connection, report, Task.BINARY)
            return list(outbox.asked(connection, NAME))

    return run


MANY = {"a": 0.1, "b": 0.4, "c": 0.2}


def test_drift_of_many_features_asks_once(ask: Ask) -> None:
    """The request is stored with its reason and evidence; later reports say the same and ask nothing."""
    act = retraining()
    for hours in (0, 1, 23):
        [asked] = ask(act, drift_body(MANY), hours)

    assert (asked.state, asked.asked_at, asked.body["report_id"]) == ("waiting", START + 1, "r1")
    assert asked.body["because"].startswith("30% of the features drifted")
    assert asked.body["evidence"][0]["figure"] == "drift.share"
    assert asked.body["request"] == {
        "key": "retrain-r1",
        "model_name": "m",
        "model_version": "1",
        "reason": asked.body["because"],
        "drifted_features": ["b", "c", "a"],
        "report_id": "r1",
        "report_url": "https://plumbline.example.com/reports/r1.html",
        "export_url": "https://plumbline.example.com/predictions?labelled=true&from=2026-08-22T14:13:20.000001Z"
        "&to=2026-09-21T14:13:20.000001Z&format=jsonl",
        "checked_at": "2026-09-21T14:13:20.000001Z",
    }


def arrive(connection: Connection, hours: float) -> None:
    """Deliver what waits, some hours after the start."""
    now = Micros(START + round(hours * HOUR * SECOND))
    with connection.begin():
        message = outbox.claim(connection, NAME, now=now, seconds=60)
        assert message is not None
        outbox.delivered(connection, message, now=now)


def test_after_the_cool_down_it_asks_again(ask: Ask, connection: Connection) -> None:
    """A new process after a restart knows when somebody asked last: what counts is in the store."""
    act = partial(retraining, cooldown="2h")
    first = ask(act(), drift_body(MANY), 0)
    arrive(connection, 0.1)
    found = [len(ask(act(), drift_body(MANY), hours)) for hours in (1.9, 2.2)]

    assert (len(first), found) == (1, [1, 2])


def test_a_webhook_that_was_away_is_asked_once(ask: Ask, connection: Connection) -> None:
    """While a request waits there is no other, and the cool-down begins anew when it arrives."""
    act = retraining(cooldown="2h")
    waiting = [len(ask(act, drift_body(MANY), hours)) for hours in (0, 2.1, 4.2)]
    arrive(connection, 5)
    arrived = [len(ask(act, drift_body(MANY), hours)) for hours in (5.1, 6.9, 7.1)]

    assert (waiting, arrived) == ([1, 1, 1], [1, 1, 2])


def test_a_request_that_was_given_up_is_made_again(ask: Ask, connection: Connection) -> None:
    """What never arrived holds nothing back."""
    act = retraining(cooldown="2h")
    ask(act, drift_body(MANY))
    with connection.begin():
        now = Micros(START + 24 * HOUR * SECOND)
        assert outbox.expire(connection, NAME, before=now, now=now) == 1

    assert [action.state for action in ask(act, drift_body(MANY), 24.1)] == ["waiting", "failed"]


def test_a_degraded_main_metric_asks(ask: Ask) -> None:
    """Accuracy below its limit presses; recall below its limit is for a person to weigh."""
    recall = performance_body(accuracy="ok", recall="degraded")
    accuracy = performance_body(accuracy="degraded")

    assert ask(retraining(), recall, kind="performance", status="degraded") == []
    [asked] = ask(retraining(), accuracy, kind="performance", status="degraded")
    assert asked.body["because"] == "the model's accuracy fell behind the baseline"


@pytest.mark.parametrize(("kind", "count"), [("missing_share", 0), ("frozen", 0), ("out_of_range", 1)])
def test_broken_input_is_not_learned(ask: Ask, kind: str, count: int) -> None:
    """A defect of the input holds the request back, and takes no turn; what may be a new world does not."""
    found = {"feature": "a", "kind": kind, "value": 0.5, "limit": 0.1, "message": "it is so"}
    broken = drift_body(MANY, data_quality={"status": "warning", "findings": [found]})

    assert len(ask(retraining(), broken)) == count
    assert len(ask(retraining(), drift_body(MANY))) == 1


def test_nothing_is_asked_without_need_or_settings(ask: Ask) -> None:
    """A sound model is left alone, and without a webhook there is nobody to ask."""
    assert ask(retraining(), drift_body({"a": 0.1})) == []
    assert ask(Retraining(None, "http://host", 0.3), drift_body(MANY)) == []


def test_of_two_replicas_one_asks(postgres: Postgres) -> None:
    """Two that find the same at once meet in one row: one turn is taken."""
    url = postgres.create_database("turns")
    replicas = [open_database(url), open_database(url)]
    upgrade(replicas[0].writer)

    def take(place: int) -> bool:
        with replicas[place % 2].writer.begin() as connection:
            return outbox.take_turn(connection, "retrain/m", now=START, pause_s=HOUR)

    try:
        with ThreadPoolExecutor(2) as threads:
            taken = list(threads.map(take, range(8)))
    finally:
        for replica in replicas:
            replica.close()

    assert sum(taken) == 1


@pytest.mark.parametrize("body", ["{", '{"a": {{ drifted_features[0] }}}', '{"a": "{{ model }}"}'])
def test_a_wrong_template_fails_the_start(body: str) -> None:
    """A template that gives no JSON for some request is refused before the first one, not when it is needed."""
    with pytest.raises(ConfigError, match=r"^alerts\.retrain\.body: "):
        retraining(body=body)


@pytest.mark.parametrize("example", EXAMPLES, ids=["first", "airflow", "github", "webhook"])
def test_the_examples_of_the_documentation(ask: Ask, tmp_path: Path, example: str) -> None:
    """Each is a configuration that starts, and gives a body that its receiver takes."""
    file = tmp_path / "config.yaml"
    file.write_text(example, encoding="utf-8")
    config = load_config(file, dict.fromkeys(("AIRFLOW_TOKEN", "GITHUB_TOKEN", "HOOK_TOKEN"), "secret"))
    assert config.alerts.retrain is not None

    [asked] = ask(Retraining(config.alerts.retrain, "http://host", 0.3), drift_body(MANY))

    request = asked.body["request"]
    assert "secret" not in str(asked.body)
    if "logical_date" in request:
        assert request.keys() == {"dag_run_id", "logical_date", "conf"}
        assert request["conf"]["drifted_features"] == ["b", "c", "a"]
    elif "event_type" in request:
        assert request.keys() == {"event_type", "client_payload"}
        assert len(request["client_payload"]) <= 10
        assert len(request["event_type"]) <= 100
    else:
        assert request["export_url"].startswith("http://host/predictions?labelled=true&")
    assert yaml.safe_load(example)["alerts"].keys() == {"retrain"}
