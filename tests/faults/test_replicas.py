"""Two replicas on one PostgreSQL: the same reports, and when one is killed the other carries on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.load import predict_requests, under_load
from tests.support.processes import Postgres, Service, serving

pytestmark = pytest.mark.fault
EVERY_SECONDS = 3
TICK_SECONDS = EVERY_SECONDS / 6
LEASE_SECONDS = 3 * TICK_SECONDS
PATIENCE_SECONDS = 60.0
SLACK_SECONDS = 2.0


def checked(service: Service) -> list[str]:
    """The ids of the reports that this replica has made, by its log."""
    found = []
    for line in service.log.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # the line may be half written
            event = json.loads(line)
            if event.get("event") == "checked":
                found.append(event["report_id"])
    return found


async def until(met: Callable[[], bool]) -> float:
    """Wait for a condition; the seconds that it took."""
    started = time.monotonic()
    while not await asyncio.to_thread(met):
        assert time.monotonic() - started < PATIENCE_SECONDS
        await asyncio.sleep(0.05)
    return time.monotonic() - started


def test_another_replica_takes_the_watch(tmp_path: Path, example_models: Path, postgres: Postgres) -> None:
    """The replica that watches is killed under load: no row is lost, the other watches within the lease.

    No look is made twice, though a check takes longer than a lease, and every report that was made is there.
    """
    url = postgres.create_database("takeover")
    every = f"{EVERY_SECONDS}s"
    settings = {"DRIFT__EVERY": every, "PERFORMANCE__EVERY": every, "STORE__ON_OUTAGE": "reject"}
    build = predict_requests(example_models)

    def holder() -> list[tuple[str, ...]]:
        return postgres.query("takeover", "SELECT holder FROM leases WHERE name = 'monitor'")

    async def scenario(replicas: tuple[Service, Service]) -> tuple[list[str], Service, float]:
        notes = [tmp_path / "one.txt", tmp_path / "two.txt"]
        async with (
            under_load(replicas[0].port, notes[0], build, clients=4) as one,
            under_load(replicas[1].port, notes[1], build, clients=4) as two,
        ):
            await until(lambda: any(len(checked(replica)) >= 3 for replica in replicas))
            idle, watching = sorted(replicas, key=lambda replica: len(checked(replica)))
            before = holder()
            watching.process.kill()
            seconds = await until(lambda: holder() != before)
            idle_till_then = checked(idle) == []
            await until(lambda: len(checked(idle)) >= 3)
        assert idle_till_then
        return one.acknowledged + two.acknowledged, idle, seconds

    with (
        serving(tmp_path, models=example_models, store=url, settings=settings) as first,
        serving(tmp_path, models=example_models, store=url, settings=settings) as second,
    ):
        acknowledged, survivor, seconds = asyncio.run(scenario((first, second)))
        survivor.process.kill()
    stored = {identity for (identity,) in postgres.query("takeover", "SELECT prediction_id FROM predictions")}
    reports = postgres.query("takeover", "SELECT report_id, kind, checked_at FROM reports ORDER BY checked_at")
    looks = [[at / 1e6 for _, kind, at in reports if kind == wanted] for wanted in ("drift", "performance")]

    assert len(acknowledged) > 0
    assert set(acknowledged) - stored == set()
    assert seconds < LEASE_SECONDS + TICK_SECONDS + SLACK_SECONDS
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
