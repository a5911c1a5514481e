"""Two replicas on one PostgreSQL: the same reports, and when one is killed the other carries on."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import suppress
from itertools import count, pairwise
from pathlib import Path

import pytest

from app.monitoring.monitor import LEASE_TICKS
from app.types import SECOND
from tests.support.deadlines import until, wait_until
from tests.support.load import batch, predict_requests, under_load
from tests.support.processes import Postgres, Service, serving

pytestmark = pytest.mark.fault
EVERY_SECONDS = 6
TICK_SECONDS = EVERY_SECONDS / 6
LEASE_US = round(LEASE_TICKS * TICK_SECONDS * SECOND)


def checked(service: Service) -> list[str]:
    """The ids of the reports that this replica has made, by its log."""
    found = []
    for line in service.log.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # the line may be half written
            event = json.loads(line)
            if event.get("event") == "checked":
                found.append(event["report_id"])
    return found


def test_another_replica_takes_the_watch(tmp_path: Path, example_models: Path, postgres: Postgres) -> None:
    """The replica that watches is killed under load: no row is lost, the other watches when the lease is over.

    No look is made twice, though a check takes longer than a lease, and every report that was made is there.
    """
    url = postgres.create_database("takeover")
    every = f"{EVERY_SECONDS}s"
    settings = {"DRIFT__EVERY": every, "PERFORMANCE__EVERY": every, "STORE__ON_OUTAGE": "reject"}
    build = predict_requests(example_models)

    numbers = count()

    def feed(*replicas: Service) -> bool:
        """Send rows; between two looks the processor is left to the checks, which have the lowest priority."""
        bodies = [batch(example_models, f"fed-{next(numbers)}", 100) for _ in replicas]
        pairs = zip(replicas, bodies, strict=True)
        return all(replica.call("POST", "/predict", body)[0] == 200 for replica, body in pairs)

    def lease() -> tuple[str, int]:
        [(holder, until)] = postgres.query("takeover", "SELECT holder, until FROM leases WHERE name = 'monitor'")
        return holder, until

    async def kill(watching: Service, idle: Service) -> list[str]:
        notes = [tmp_path / "one.txt", tmp_path / "two.txt"]
        async with (
            under_load(watching.port, notes[0], build, clients=4) as one,
            under_load(idle.port, notes[1], build, clients=4) as two,
        ):
            await asyncio.gather(one.more(), two.more())
            watching.end(signal.SIGKILL)
            holder, ends = lease()
            await until(lambda: lease()[0] != holder)
            assert lease()[1] - LEASE_US >= ends
        return one.acknowledged + two.acknowledged

    with (
        serving(tmp_path, models=example_models, store=url, settings=settings) as first,
        serving(tmp_path, models=example_models, store=url, settings=settings) as second,
    ):
        wait_until(lambda: feed(first, second) and any(len(checked(replica)) >= 3 for replica in (first, second)))
        idle, watching = sorted((first, second), key=lambda replica: len(checked(replica)))
        before = checked(idle)
        acknowledged = asyncio.run(kill(watching, idle))
        wait_until(lambda: feed(idle) and len(checked(idle)) >= 3)
        idle.end(signal.SIGKILL)
    stored = {identity for (identity,) in postgres.query("takeover", "SELECT prediction_id FROM predictions")}
    reports = postgres.query("takeover", "SELECT report_id, kind, checked_at FROM reports ORDER BY checked_at")
    looks = [[at / 1e6 for _, kind, at in reports if kind == wanted] for wanted in ("drift", "performance")]

    assert before == []
    assert set(acknowledged) - stored == set()
    assert {*checked(first), *checked(second)} <= {report_id for report_id, _, _ in reports}
    assert [
        later - earlier for times in looks for earlier, later in pairwise(times) if later - earlier < EVERY_SECONDS
    ] == []


def test_replicas_give_the_same_report(tmp_path: Path, example_models: Path, postgres: Postgres) -> None:
    """Two processes on one database answer /drift with the same report, whoever made it, and log no error."""
    url = postgres.create_database("replicas")
    settings = {"DRIFT__EVERY": "1h", "PERFORMANCE__EVERY": "1h"}
    with (
        serving(tmp_path, models=example_models, store=url, settings=settings) as first,
        serving(tmp_path, models=example_models, store=url, settings=settings) as second,
    ):
        features = first.call("GET", "/models/breast_cancer")[1]["versions"][0]["features"]
        row = {feature["name"]: feature["low"] for feature in features}
        for service in (first, second):
            assert service.call("POST", "/predict", {"instances": [row] * 300})[0] == 200
        for checker in (first, second):
            assert checker.call("POST", "/checks")[0] == 200
            reports = [replica.call("GET", "/drift")[1] for replica in (first, second)]

            assert reports[0] == reports[1]
            assert reports[0]["window"]["rows"] == 600
    errors = [line for replica in (first, second) for line in replica.log.read_text().splitlines() if '"error"' in line]

    assert errors == []
