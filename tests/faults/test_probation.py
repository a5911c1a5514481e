"""A version that raises on half of its rows is rolled back by itself: once, for good, and told once."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from tests.support.models.failing_version import ACTIVATE, NAME, SETTINGS, Answered, ask, build_versions, history
from tests.support.processes import Postgres, Service, serving

pytestmark = pytest.mark.fault
BACK_WITHIN_S = 20.0


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


def changes(value: str) -> list[tuple[str, str, str | None]]:
    """The stored history: act, version and who it was."""
    return [(entry["act"], entry["version"], entry["by"]) for entry in history(value)]


BY_ITSELF = [("activate", "2", None), ("rollback", "1", "plumbline: probation")]


def test_a_failing_version_goes_within_seconds(tmp_path: Path, models: Path) -> None:
    """Once version 1 answers again, no request fails; the alert says why; a person may try again, and it goes again."""
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        before = ask(service, 1.0)
        assert service.call("POST", ACTIVATE, {"version": "2"})[0] == 200
        seen = ask(service, BACK_WITHIN_S, until="1")
        shown = service.call("GET", "/alerts")[1]["alerts"]
        [alert] = [alert for alert in shown if alert["rule"] == "rolled_back"]
        report = service.call("GET", f"/reports/{alert['report_id']}")[1]
        assert service.call("POST", ACTIVATE, {"version": "2"})[0] == 200
        again = ask(service, BACK_WITHIN_S, until="1")
        states = rollbacks(service)
        service.end(signal.SIGTERM)
    with closing(sqlite3.connect(tmp_path / "plumbline.db")) as connection:
        [(value,)] = connection.execute("SELECT value FROM settings WHERE key = ?", [f"active/{NAME}"]).fetchall()

    assert {status for _, status, _ in before} == {200}
    for answers in (seen, again):
        failed = [at for at, status, _ in answers if status != 200]
        back = next(at for at, _, version in reversed(answers) if version == "2")
        assert len(failed) >= 10
        assert max(failed) - answers[0][0] < BACK_WITHIN_S / 2
        assert {(status, version) for at, status, version in answers if at > max(back, *failed)} == {(200, "1")}
    assert (alert["severity"], alert["state"]) == ("high", "firing")
    assert alert["message"].startswith("version 2 was rolled back to 1: ")
    assert report["rolled_back"]["version"] == "2"
    assert states == ["firing", "resolved"]
    assert changes(value) == BY_ITSELF * 2


def test_a_restart_in_the_middle_changes_nothing(tmp_path: Path, models: Path) -> None:
    """Killed while the version fails, the service comes back with it, and rolls it back: its past is in the store."""
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        assert service.call("POST", ACTIVATE, {"version": "2"})[0] == 200
        ask(service, 1.0)
        service.end(signal.SIGKILL)
    with serving(tmp_path, models=models, settings=SETTINGS) as service:
        seen = ask(service, BACK_WITHIN_S, until="1")
        shown = rollbacks(service)

    assert seen[0][1:] == (200, "2")
    assert seen[-1][1:] == (200, "1")
    assert shown == ["firing"]


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
            Thread(target=lambda part=part, service=service: part.extend(ask(service, BACK_WITHIN_S, until="1")))
            for part, service in zip(seen, (first, second), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shown = [rollbacks(service) for service in (first, second)]
    [(value,)] = postgres.query("probation", "SELECT value FROM settings")

    assert changes(str(value)) == BY_ITSELF
    assert json.loads(str(value))["version"] == "1"
    assert [{version for _, _, version in part[-20:]} for part in seen] == [{"1"}, {"1"}]
    assert shown == [["firing"]] * 2
