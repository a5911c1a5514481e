"""The shipped configurations of Alertmanager and of the log collector."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.deadlines import wait_until
from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT, serving
from tests.support.programs import require_tool

CONFIG = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The shipped file; Alertmanager before 0.26 knows a bot's token in the file alone."""
    text = CONFIG.read_text(encoding="utf-8").replace("bot_token_file: /run/secrets/telegram_token", "bot_token: none")
    changed = tmp_path / "alertmanager.yml"
    changed.write_text(text, encoding="utf-8")
    return changed


def test_alertmanager_takes_the_shipped_file(config: Path) -> None:
    """Routes, receivers and inhibitions are valid."""
    checked = subprocess.run(
        [require_tool("amtool"), "check-config", config], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("severity", "receivers"),
    [("critical", "telegram,slack"), ("high", "slack"), ("medium", "mail"), ("low", "mail"), ("other", "mail")],
)
def test_a_severity_reaches_its_receivers(config: Path, severity: str, receivers: str) -> None:
    """Critical alerts go to two places, and none goes nowhere."""
    command = [require_tool("amtool"), "config", "routes", "test", f"--config.file={config}", f"severity={severity}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)

    assert found.stdout.strip() == receivers


def test_inhibitions_name_alerts_that_exist() -> None:
    """An inhibition over a name that no rule has would never hold."""
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    known = set(re.findall(r"- alert: (\w+)", rules))
    named = set(re.findall(r"Plumbline[A-Z]\w+", CONFIG.read_text(encoding="utf-8")))

    assert named <= known
    assert len(named) > 3


def test_no_secret_stands_in_a_file() -> None:
    """Every password and token is read from a file that is not shipped."""
    text = CONFIG.read_text(encoding="utf-8")

    assert re.findall(r"(?:password|token|api_url)(?!_file)\s*:", text) == []
    assert set(yaml.safe_load(text)) == {"global", "route", "inhibit_rules", "receivers"}


def test_the_log_collector_reads_fields_that_lines_have(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """Each field of the collector stands in the service's lines under that name."""
    text = (ROOT / "deploy" / "loki" / "config.alloy").read_text(encoding="utf-8")
    expressions = text.partition("expressions = {")[2].partition("}")[0]
    wanted = set(re.findall(r"= \"(\w+)\"", expressions))
    with serving(tmp_path, models=small_models[0], settings={"SERVING__ACTIVE": "mixed"}) as service:
        service.call("GET", "/predictions/nobody")  # what went well has no line
        wait_until(lambda: any(wanted <= line.keys() for line in service.lines()), service.lines)  # after the answer
        lines = service.lines()

    assert wanted == {"time", "level", "logger", "event", "request_id", "route", "status"}
    assert all({"time", "level", "logger", "event"} <= line.keys() for line in lines)
