"""Periodic tasks: when they take turns, what ends them, and who notices."""

from __future__ import annotations

import ast
import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app.background import AT_ONCE, TASK_PREFIX, WORK_PREFIX, PeriodicTask, StoreAway, start_work
from app.config.settings import Config
from app.errors import Unavailable
from tests.support.application import make_config, running, services_of
from tests.support.models.versions import NAME, build_versions
from tests.support.processes import ROOT, Postgres
from tests.support.receivers import Webhook, webhook

INTERVAL_S = 7.0
STARTERS = {
    "app.alerting.channels.base": "a thread for each message, which may hang for ever",
    "app.api.app": "a call that ends by itself: the OpenAPI document of a version",
    "app.api.coalescing": "a task for each group of requests",
    "app.api.dependencies": "a call that ends by itself: an answer that several callers wait for",
    "app.background": "periodic tasks, tasks that end by themselves, and calls in daemon threads",
    "app.commands.simulation.traffic": "a client, not the service",
    "app.logging": "the thread that writes a line for each prediction",
    "app.monitoring.monitor": "a task for each check, which ends by itself",
    "app.server.fast_path": "a task for each request over ASGI, which the server waits for",
    "app.store.journal.journal": "the writer thread, which /health/ready asks for as checks.journal",
    "app.store.journal.spool": "the thread that looks for the store, which /health/ready asks for as spool",
    "app.telemetry": "threads that send to OpenTelemetry, and may hang for ever without harm",
}
"""Modules that start a task or a thread, with the reason."""


class Turns:
    """A task whose turns do what a test lists; waiting takes no time, and is noted."""

    def __init__(self, *turns: float | BaseException | None, store_away: StoreAway = "warn") -> None:
        self._turns = iter(turns)
        self._ended = asyncio.Event()
        self.waited: list[float] = []
        self.task = PeriodicTask("sample", self._turn, interval_s=INTERVAL_S, store_away=store_away, wait=self._wait)

    async def run(self) -> list[str]:
        """Take all turns, then stop; the events that were logged."""
        with capture_logs() as logs:
            self.task.start()
            await asyncio.wait_for(self._ended.wait(), 5)
            await self.task.stop()
        return [entry["event"] for entry in logs]

    async def _turn(self) -> float | None:
        turn = next(self._turns, self._ended)
        if turn is self._ended:
            self._ended.set()
            await asyncio.Event().wait()
        if isinstance(turn, BaseException):
            raise turn
        assert not isinstance(turn, asyncio.Event)
        return turn

    async def _wait(self, _event: asyncio.Event, seconds: float) -> None:
        self.waited.append(seconds)
        await asyncio.sleep(0)


def test_a_turn_names_the_time_until_the_next() -> None:
    """None means the interval, a number so many seconds, and AT_ONCE no wait at all."""

    async def scenario() -> list[float]:
        turns = Turns(None, 3.0, AT_ONCE, None)
        assert await turns.run() == []
        return turns.waited

    assert asyncio.run(scenario()) == [INTERVAL_S, 3.0, INTERVAL_S]


@pytest.mark.parametrize(
    ("failure", "store_away", "logged"),
    [
        (ValueError("a bug"), "warn", ["turn_failed"]),
        (asyncio.CancelledError(), "warn", ["turn_failed"]),
        (Unavailable("away"), "warn", ["turn_skipped"]),
        (Unavailable("away"), "wait", []),
    ],
    ids=["error", "cancelled inside", "store away, warn", "store away, wait"],
)
def test_a_failing_turn_does_not_end_the_task(failure: BaseException, store_away: StoreAway, logged: list[str]) -> None:
    """The next turn comes after the interval, and the log has what the policy wants."""

    async def scenario() -> tuple[list[str], list[float]]:
        turns = Turns(failure, AT_ONCE, store_away=store_away)
        return await turns.run(), turns.waited

    assert asyncio.run(scenario()) == (logged, [INTERVAL_S])


def test_a_wake_during_a_turn_is_not_lost() -> None:
    """Another turn comes right behind the one that ran; without a wake, none comes."""

    async def scenario() -> int:
        turns = 0
        second = asyncio.Event()

        async def turn() -> None:
            nonlocal turns
            turns += 1
            if turns == 1:
                task.wake()
            else:
                second.set()

        task = PeriodicTask("sample", turn, interval_s=3600, store_away="warn")
        task.start()
        await asyncio.wait_for(second.wait(), 5)
        await task.stop()
        return turns

    assert asyncio.run(scenario()) == 2


@pytest.mark.parametrize(("grace_s", "finished"), [(5.0, True), (0.0, False)])
def test_a_stop_waits_for_a_turn_within_its_grace(grace_s: float, finished: bool) -> None:
    """A turn that has begun ends within the grace; without grace it is cancelled."""

    async def scenario() -> bool:
        begun, ended = asyncio.Event(), False

        async def turn() -> None:
            nonlocal ended
            begun.set()
            for _ in range(10):
                await asyncio.sleep(0)
            ended = True

        task = PeriodicTask("sample", turn, interval_s=3600, store_away="warn")
        task.start()
        await begun.wait()
        await task.stop(grace_s)
        assert not task.alive
        return ended

    assert asyncio.run(scenario()) is finished


def test_a_task_that_dies_is_logged_at_once() -> None:
    """A task that somebody else cancels says its name; one that is stopped says nothing."""

    async def scenario() -> list[Any]:
        turns = Turns()
        with capture_logs() as logs:
            turns.task.start()
            [task] = (each for each in asyncio.all_tasks() if each.get_name() == f"{TASK_PREFIX}sample")
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(0)
        return [(entry["event"], entry["task"], entry["log_level"]) for entry in logs]

    assert asyncio.run(scenario()) == [("task_died", "sample", "critical")]


def test_work_that_fails_is_logged_at_once() -> None:
    """Nobody need await it to learn of the failure."""

    async def fail() -> None:
        raise ValueError("a bug")

    async def scenario() -> list[Any]:
        with capture_logs() as logs:
            await asyncio.wait([start_work("sample", fail())])
            await asyncio.sleep(0)
        return [(entry["event"], entry["task"]) for entry in logs]

    assert asyncio.run(scenario()) == [("work_failed", "sample")]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with versions of one model."""
    models = tmp_path_factory.mktemp("versions")
    build_versions(models)
    return models


@pytest.fixture
def receiver() -> Iterator[Webhook]:
    """A web server that takes every message."""
    with webhook() as running_webhook:
        yield running_webhook


@pytest.fixture
def config(tmp_path: Path, versions: Path, receiver: Webhook, postgres: Postgres) -> Config:
    """A configuration that needs every background task there is."""
    manager = f"alertmanager+http://127.0.0.1:{receiver.port}"
    return make_config(
        tmp_path,
        versions,
        f"{NAME}/1",
        serving={"shadows": ["2"], "allow_pickle": True},
        store={
            "url": postgres.create_database("background"),
            "on_outage": "spool",
            "spool_path": str(tmp_path / "spool.db"),
        },
        alerts={"notify": [{"url": receiver.url}, {"url": manager}]},
    )


def periodic_tasks() -> dict[str, asyncio.Task[Any]]:
    """The periodic tasks of the event loop by name."""
    return {
        name.removeprefix(TASK_PREFIX): task
        for task in asyncio.all_tasks()
        if (name := task.get_name()).startswith(TASK_PREFIX) and not name.startswith(WORK_PREFIX)
    }


def with_application(config: Config, act: Callable[[Any, httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    """Do something with the running application in its event loop."""

    async def scenario() -> None:
        async with running(config) as (app, client):
            await act(app, client)

    asyncio.run(scenario())


def test_readiness_names_each_task_that_dies(config: Config) -> None:
    """Readiness asks all periodic tasks and names each one that dies; it stays 200."""
    expected = ["activation", "alertmanager", "delivery", "heartbeat", "keys", "scheduler", "shadow"]

    async def act(app: Any, client: httpx.AsyncClient) -> None:
        tasks = periodic_tasks()
        asked = Counter(task.name for task in services_of(app).background)
        before = (await client.get("/health/ready")).json()
        seen = []
        for name in expected:
            tasks[name].cancel()
            await asyncio.wait([tasks[name]])
            answer = await client.get("/health/ready")
            seen.append((answer.status_code, answer.json()["checks"]["monitor"], answer.json()["dead_tasks"]))
        app.add_background_task(Turns().task)
        after = (await client.get("/health/ready")).json()

        assert asked == Counter([*tasks, "spool"])
        assert sorted(tasks) == expected
        assert before["checks"]["monitor"] is True
        assert "dead_tasks" not in before
        assert after["dead_tasks"] == [*expected[:5], "sample", *expected[5:]]
        assert seen == [(200, False, expected[: number + 1]) for number in range(len(expected))]

    with_application(config, act)


def test_tasks_and_threads_start_in_few_places() -> None:
    """A new loop is a PeriodicTask, or its module is listed above with the reason."""
    found = set()
    for path in (ROOT / "app").rglob("*.py"):
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        names = {ast.unparse(call.func).rpartition(".")[2] for call in calls}
        if names & {"create_task", "ensure_future", "Thread"}:
            found.add(".".join(path.relative_to(ROOT).with_suffix("").parts))

    assert found == set(STARTERS)
