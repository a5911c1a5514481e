"""A real Prometheus with the shipped rules scrapes a real service."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from scripts.dashboards import dashboards, known_series, rendered, texts
from tests.support.deadlines import wait_until
from tests.support.deploy.stack import DEPLOY, prometheus, query
from tests.support.deploy.stack import PROMETHEUS as SHIPPED
from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT, Service, serving
from tests.support.programs import require_tool

SELECTOR = re.compile(r"(?<![\w:\"])(?:ml_\w+|up|plumbline:[\w:]+)(?:\{[^}]*\})?")
"""A series in an expression, with its labels."""
CHOSEN = {"$__rate_interval": "1m", "$instance": ".*", "$model_name": "mixed", "$model_version": ".*"}
"""What Grafana puts in place of its variables."""


class Scene(NamedTuple):
    """A service that has had traffic, and the Prometheus that scrapes it."""

    service: Service
    address: str

    def ask(self, expression: str) -> list[Any]:
        """The samples of an expression as they are now."""
        return query(self.address, expression)

    def wait_for(self, expression: str) -> float:
        """The one value of an expression, as soon as Prometheus has one."""
        found: list[Any] = []

        def look() -> bool:
            with suppress(OSError):
                found[:] = self.ask(expression)
            return bool(found)

        wait_until(look, lambda: f"Prometheus has no value for {expression}")
        return float(found[0]["value"][1])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Scene]:
    """A service with predictions, outcomes, an error and its first reports, scraped twice and more."""
    folder = tmp_path_factory.mktemp("prometheus")
    fitted = small_models[1]["mixed"]
    settings = {"SERVING__ACTIVE": "mixed", "DRIFT__EVERY": "1d", "PERFORMANCE__EVERY": "1d"}
    with (
        serving(folder, models=small_models[0], settings=settings) as service,
        prometheus(folder, service.port) as address,
    ):
        scene = Scene(service, address)
        scene.wait_for("ml_journal_rows_total")
        _send(service, fitted)
        scene.wait_for('ml_journal_rows_total{state="stored"} > 1')
        scene.wait_for("plumbline:fast_predictions:ratio_rate5m")
        scene.wait_for("ml_drift_psi_max")
        scene.wait_for("ml_label_coverage_ratio")
        scene.wait_for('rate(ml_check_duration_seconds_count{kind="drift"}[1m])')
        yield scene


def _send(service: Service, fitted: Fitted) -> None:
    """One row, a batch with outcomes, a row that is refused, and a check."""
    assert service.call("POST", "/predict", {"features": fitted.rows[0]})[0] == 200
    status, answer = service.call("POST", "/predict", {"instances": fitted.rows})
    assert status == 200
    given = zip(answer["predictions"], fitted.data["y"].tolist(), strict=True)
    outcomes = [{"prediction_id": item["prediction_id"], "outcome": label} for item, label in given]
    assert service.call("POST", "/outcome", {"outcomes": outcomes})[0] == 200
    assert service.call("POST", "/predict", {"features": {}})[0] == 422
    assert service.call("POST", "/checks")[0] == 200


def test_a_real_prometheus_scrapes_the_ledger(scene: Scene) -> None:
    """What the service has stored stands in Prometheus, and the ledger adds up there."""
    assert scene.wait_for('ml_journal_rows_total{state="stored"}') > 1
    assert scene.wait_for("plumbline:ledger:missing_rows") == 0
    assert scene.wait_for("ml_model_loaded") == 1


def test_no_panel_is_empty(scene: Scene) -> None:
    """Every expression of every dashboard has a value on the scraped data, and Prometheus can read it."""
    empty = []
    for dashboard in dashboards():
        for panel in dashboard.panels:
            for asked in panel.queries:
                expression = asked.expression
                for variable, value in CHOSEN.items():
                    expression = expression.replace(variable, value)
                if not scene.ask(expression):
                    empty.append((dashboard.name, panel.title, expression))

    assert empty == []


def test_every_rule_watches_series_that_exist(scene: Scene) -> None:
    """No rule is silent because a name or a label is wrong: each of its selectors has a series."""
    rules = [
        rule
        for name in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((SHIPPED / name).read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    selectors = {selector for rule in rules for selector in SELECTOR.findall(rule["expr"])}

    assert len(selectors) > len(rules) / 2
    assert [selector for selector in sorted(selectors) if not scene.ask(selector)] == []


def test_a_healthy_service_fires_nothing(scene: Scene) -> None:
    """Predictions, outcomes and a refused row are no reason for an alert on the service."""
    firing = {sample["metric"]["alertname"] for sample in scene.ask('ALERTS{alertstate="firing"}')}

    assert firing <= {"PlumblineModelAlert"}


def test_the_dashboards_are_those_of_the_script() -> None:
    """``python -m scripts.dashboards`` would change no file, and no file is left over."""
    kept = {path.name: path.read_text(encoding="utf-8") for path in (DEPLOY / "grafana" / "dashboards").iterdir()}

    assert kept == texts()


def test_a_dashboard_cannot_name_a_series_that_does_not_exist() -> None:
    """The script stops at a name that no part of the service exports."""
    series = known_series()
    del series["ml_requests_total"]

    with pytest.raises(KeyError, match="ml_requests_total"):
        rendered(dashboards()[0], series)


def test_prometheus_takes_the_shipped_files() -> None:
    """Both scrape files and the rules are valid, and each alert fires in its case and not before."""
    tool = require_tool("promtool")
    for command in (
        ("check", "config", DEPLOY / "prometheus.yml", SHIPPED / "prometheus.yml"),
        ("test", "rules", SHIPPED / "tests" / "alerts_test.yml"),
    ):
        checked = subprocess.run([tool, *command], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_test_and_a_page() -> None:
    """An alert without a test of its own may never fire, and one without a page helps nobody at night."""
    groups = yaml.safe_load((SHIPPED / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    cases = yaml.safe_load((SHIPPED / "tests" / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    tested = {check["alertname"] for case in cases for check in case.get("alert_rule_test", ()) if check["exp_alerts"]}

    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["alert"] in tested
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        text = (ROOT / page).read_text(encoding="utf-8")
        headings = {head.lower().replace(" ", "-") for head in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert not anchor or anchor in headings, rule["annotations"]["runbook"]
