"""A version that raises on half of its rows is rolled back by itself: once, for good, and told once."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Thread

import pytest

from app.alerting.rules.service import MIN_ROWS
from tests.support.deadlines import wait_until
from tests.support.models.failing_version import (
    ACTIVATE,
    NAME,
    SETTINGS,
    Answered,
    ask_some,
    ask_until,
    build_versions,
    history,
)
from tests.support.processes import Postgres, Service, serving

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both versions."""
    folder = tmp_path_factory.mktemp("failing")
    build_versions(folder)
    return folder


def rollbacks(service: Service) -> list[str]:
    """The states of the alerts about a rollback."""
    shown = service.call("GET", "/alerts")[1]["alerts"]
    return [alert["state"] for alert in shown if alert["rule"] == "rolled_back"]


def is_rolled_back(service: Service) -> bool:
    """Whether there is one alert about one rollback."""
    return rollbacks(service) == ["firing"]


def changes(value: str) -> list[tuple[str, str, str | None]]:
    """The stored history: act, version and who it was."""
    return [(entry["act"], entry["version"], entry["by"]) for entry in history(value)]


BY_ITSELF = [("activate", "2", None), ("rollback", "1", "plumbline: probation")]


def test_a_failing_version_goes_by_itself(tmp_path: Path, models: Path) -> None:
    """Once version 1 answers again, no request fails; the alert says why; a person may try again, and it goes again."""
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        before = ask_some(service, 100)
        assert service.call("POST", ACTIVATE, {"version": "2"})[0] == 200
        seen = ask_until(service, "1")
        wait_until(lambda: rollbacks(service))
        shown = service.call("GET", "/alerts")[1]["alerts"]
        [alert] = [alert for alert in shown if alert["rule"] == "rolled_back"]
        report = service.call("GET", f"/reports/{alert['report_id']}")[1]
        assert service.call("POST", ACTIVATE, {"version": "2"})[0] == 200
        again = ask_until(service, "1")
        wait_until(lambda: rollbacks(service) == ["firing", "resolved"], lambda: rollbacks(service))
        service.end(signal.SIGTERM)
    with closing(sqlite3.connect(tmp_path / "plumbline.db")) as connection:
        [(value,)] = connection.execute("SELECT value FROM settings WHERE key = ?", [f"active/{NAME}"]).fetchall()

    assert {status for status, _ in before} == {200}
    for answers in (seen, again):
        failed = [place for place, (status, _) in enumerate(answers) if status != 200]
        back = max(place for place, (_, version) in enumerate(answers) if version == "2")
        assert len(failed) >= 10
        assert {*answers[max(back, *failed) + 1 :]} == {(200, "1")}
    assert (alert["severity"], alert["state"]) == ("high", "firing")
    assert alert["message"].startswith("version 2 was rolled back to 1: ")
    assert report["rolled_back"]["version"] == "2"
    assert changes(value) == BY_ITSELF * 2


def test_a_restart_in_the_middle_changes_nothing(tmp_path: Path, models: Path) -> None:
    """Killed while the version fails, the service comes back with it, and rolls it back once.

    Before the kill the version has answered fewer rows than it is judged by.
    """
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        assert service.call("POST", ACTIVATE, {"version": "2"})[0] == 200
        ask_some(service, MIN_ROWS - 10)
        service.end(signal.SIGKILL)
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        seen = ask_until(service, "1")
        wait_until(partial(is_rolled_back, service))

    assert seen[0] == (200, "2")
    assert seen[-1] == (200, "1")


def test_two_replicas_roll_back_once(tmp_path: Path, models: Path, postgres: Postgres) -> None:
    """Under traffic on both, one change is stored, both answer with version 1, and there is one alert."""
    url = postgres.create_database("probation")
    with (
        serving(tmp_path, models=models, store=url, settings=SETTINGS) as first,
        serving(tmp_path, models=models, store=url, settings=SETTINGS) as second,
    ):
        assert first.call("POST", ACTIVATE, {"version": "2"})[0] == 200
        seen: list[list[Answered]] = [[], []]
        threads = [
            Thread(target=lambda part=part, service=service: part.extend(ask_until(service, "1")))
            for part, service in zip(seen, (first, second), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for service in (first, second):
            wait_until(partial(is_rolled_back, service))
    [(value,)] = postgres.query("probation", "SELECT value FROM settings")

    assert changes(str(value)) == BY_ITSELF
    assert json.loads(str(value))["version"] == "1"
    assert [{version for _, version in part[-20:]} for part in seen] == [{"1"}, {"1"}]
