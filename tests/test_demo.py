"""`make demo`, as a person runs it: the week that it tells, the service on it, and its end."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.processes import ROOT, Service, free_port

pytestmark = pytest.mark.fault


def is_ready(service: Service) -> bool:
    """Whether the service of the demo answers."""
    with suppress(OSError, HTTPException):
        return bool(service.call("GET", "/health/ready")[0] == 200)
    assert service.process.poll() is None, service.log.read_text(encoding="utf-8")
    return False


def test_the_story_is_told_and_has_no_false_alarm(tmp_path: Path, flights_models: Path) -> None:
    """Alerts begin after something went wrong, all have ended, and the page is on a service with live traffic."""
    port, log = free_port(), tmp_path / "demo.log"
    words: list[str | Path] = ["--models", flights_models, "--port", str(port), "--folder", tmp_path / "store"]
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "scripts.demo", *words], cwd=ROOT, stdout=out, stderr=out)
    service = Service(process, port, log)
    try:
        wait_until(lambda: is_ready(service))
        alerts: list[dict[str, Any]] = service.call("GET", "/alerts?state=resolved")[1]["items"]
        firing = service.call("GET", "/alerts?state=firing")[1]["items"]
        history = service.call("GET", "/performance/history?limit=500")[1]["items"]
        wait_until(lambda: service.call("GET", "/summary")[1]["requests"] > 0)
        child_processes = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_S)
    told = [line for line in log.read_text(encoding="utf-8").splitlines() if " UTC  " in line]
    kinds = [line.split(" UTC  ")[1].split()[0] for line in told]

    assert {alert["rule"] for alert in alerts} >= {"feature_drift", "accuracy_drop"}
    assert firing == []
    assert len(history) > 40
    assert kinds[0] == "BEGINS"
    second = kinds.index("BEGINS", 1)
    assert {"firing", "resolved"} <= set(kinds[:second])
    assert {"firing", "resolved"} <= set(kinds[second:])
    assert process.returncode == 0
    assert len(child_processes) == 2
    assert not any(Path(f"/proc/{child}").exists() for child in child_processes)
