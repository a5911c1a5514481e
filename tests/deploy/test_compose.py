"""The compose file: no default secret, files that exist, commands that run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.settings import Config
from tests.support.deploy.containers import container, environment, run
from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT

COMPOSE = ROOT / "deploy" / "compose.yaml"
WITHOUT_CLIENT = {"loki", "alloy"}
"""Services whose image has nothing to ask them with."""


@pytest.fixture(scope="module")
def compose() -> Any:
    """The file."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def dockerfile(word: str) -> str:
    """The last instruction of this name, on one line."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return str(re.findall(rf"^{word} (.*)$", text, re.MULTILINE)[-1])


def test_nothing_has_a_default_password(compose: Any) -> None:
    """Each secret is a variable that must be set, or a file that is not shipped."""
    text = COMPOSE.read_text(encoding="utf-8")
    for name in ("POSTGRES_PASSWORD", "GRAFANA_PASSWORD", "PLUMBLINE_KEYS", "ALERT_SECRETS"):
        uses = re.findall(rf"\$\{{{name}(\W)", text)
        assert uses
        assert set(uses) == {":"}, name
        assert not re.search(rf"\$\{{{name}:-", text)
    for secret in compose["secrets"].values():
        assert secret["file"].startswith("${ALERT_SECRETS:?")


def test_ports_are_open_on_the_loopback_alone(compose: Any) -> None:
    """A machine in the internet does not show the store or the dashboards to everybody."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_service_restarts_keeps_its_data_and_tells_its_health(compose: Any) -> None:
    """Each has a volume of its own that is declared; what can be asked has a health check."""
    for name, service in compose["services"].items():
        assert service["restart"] == "unless-stopped"
        sources = [volume.partition(":")[0] for volume in service["volumes"]]
        assert any(source in compose["volumes"] for source in sources), name
        has_check = "test" in service.get("healthcheck", {})
        assert has_check or name in WITHOUT_CLIENT or name == "plumbline"
    assert dockerfile("HEALTHCHECK")


def test_mounted_files_exist(compose: Any) -> None:
    """Docker would make an empty folder of a file that is missing."""
    mounted = [
        volume.partition(":")[0]
        for service in compose["services"].values()
        for volume in service["volumes"]
        if volume.startswith("./")
    ]

    assert len(mounted) >= 5
    assert all((COMPOSE.parent / path).exists() for path in mounted)


def test_addresses_name_services(compose: Any) -> None:
    """Prometheus, Grafana and the collector reach the services by names and ports that are here."""
    files = ("prometheus/prometheus.yml", "grafana/provisioning/datasources/plumbline.yaml", "loki/config.alloy")
    text = "".join((COMPOSE.parent / name).read_text(encoding="utf-8") for name in files)
    named = set(re.findall(r"(?:http://|\[\"|names: \[)([a-z]+)[:\]]", text))

    assert named == {"plumbline", "alertmanager", "prometheus", "loki"}
    assert named <= compose["services"].keys()


def test_settings_are_known(compose: Any) -> None:
    """Each variable of the service sets a key of the configuration."""
    for name in compose["services"]["plumbline"]["environment"]:
        _, section, key = name.lower().split("__")
        assert key in type(getattr(Config(), section)).model_fields


def test_the_image_serves_and_is_healthy(
    compose: Any, tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]
) -> None:
    """The command of the image serves with the variables of the compose file, and its health check says so."""
    environ = environment(tmp_path, small_models[0], compose["services"]["plumbline"]["environment"])
    command = yaml.safe_load(dockerfile("CMD"))
    health = yaml.safe_load(dockerfile("HEALTHCHECK").partition("CMD ")[2])

    assert run(health, environ).returncode != 0
    with container(command, tmp_path, environ):
        assert run(health, environ).returncode == 0
