"""The manifests for Kubernetes: what they name exists, and what they run and probe works."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.settings import Config
from scripts.prometheus_rule import MANIFEST, text
from tests.support.deploy.containers import KEY, container, environment, get, run
from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT, Service

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("staging", "prod")


def documents(path: Path) -> list[Any]:
    """The manifests in a file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def base() -> dict[str, Any]:
    """Every manifest of the base by its kind: each kind is there once."""
    [kustomization] = documents(KUBERNETES / "base" / "kustomization.yaml")
    found = [item for name in kustomization["resources"] for item in documents(KUBERNETES / "base" / name)]
    assert len({item["kind"] for item in found}) == len(found)
    return {item["kind"]: item for item in found}


def pods() -> dict[str, Any]:
    """The pod of the service and that of the migration."""
    return {kind: base()[kind]["spec"]["template"]["spec"] for kind in ("Deployment", "Job")}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> Iterator[Service]:
    """The container of the Deployment, after the container of the migration on the same store."""
    folder = tmp_path_factory.mktemp("kubernetes")
    environ = environment(folder, small_models[0], base()["ConfigMap"]["data"])
    migrated = run(pods()["Job"]["containers"][0]["command"], environ)
    assert migrated.returncode == 0, migrated.stderr
    assert "migrated from nothing" in migrated.stdout
    with container(pods()["Deployment"]["containers"][0]["command"], folder, environ) as service:
        yield service


def test_every_file_is_listed() -> None:
    """A manifest that kustomize does not read would be missed by nobody."""
    for folder in (KUBERNETES / "base", *(KUBERNETES / "overlays" / name for name in OVERLAYS)):
        [kustomization] = documents(folder / "kustomization.yaml")
        named = [*kustomization["resources"], *(patch["path"] for patch in kustomization.get("patches", ()))]
        files = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}

        assert {name for name in named if not name.startswith("..")} == files
        assert all((folder / name).exists() for name in named)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_changes_what_the_base_has(overlay: str) -> None:
    """A patch over another name would change nothing; each overlay has a namespace of its own."""
    folder = KUBERNETES / "overlays" / overlay
    [kustomization] = documents(folder / "kustomization.yaml")

    assert kustomization["namespace"] == documents(folder / "namespace.yaml")[0]["metadata"]["name"]
    for patch in kustomization["patches"]:
        for item in documents(folder / patch["path"]):
            assert base()[item["kind"]]["metadata"]["name"] == item["metadata"]["name"]
            assert base()[item["kind"]]["apiVersion"] == item["apiVersion"]
    for image in kustomization["images"]:
        assert image["name"] in {pod["containers"][0]["image"] for pod in pods().values()}


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_a_pod_has_no_rights_that_it_does_not_need(kind: str) -> None:
    """It runs as the image's user on a read-only root, without capabilities and without a token of the cluster."""
    pod = pods()[kind]
    [the] = pod["containers"]
    user = re.search(r"--uid (\d+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))

    assert user is not None
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(user[1])
    assert pod["automountServiceAccountToken"] is False
    assert the["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in the["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_selectors_find_the_pods_of_the_service() -> None:
    """Service, budget, monitor and autoscaler select the Deployment's pods, and not the migration's."""
    found = base()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == found["Service"]["metadata"]["labels"]
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert found["Job"]["spec"]["template"]["metadata"]["labels"] != labels
    ports = {port["name"] for port in pods()["Deployment"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} == ports
    assert {point["port"] for point in found["ServiceMonitor"]["spec"]["endpoints"]} == ports


def test_settings_are_known() -> None:
    """Each variable of the ConfigMap sets a key of the configuration."""
    for name in base()["ConfigMap"]["data"]:
        _, section, key = name.lower().split("__")
        assert key in type(getattr(Config(), section)).model_fields


def test_the_rules_are_those_of_prometheus() -> None:
    """``python -m scripts.prometheus_rule`` would change nothing."""
    assert MANIFEST.read_text(encoding="utf-8") == text()


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_probe_is_answered(service: Service, probe: str) -> None:
    """The container answers each probe at the path and the port that the manifest names, without a key."""
    [the] = pods()["Deployment"]["containers"]
    asked = the[probe]["httpGet"]

    assert asked["port"] in {port["name"] for port in the["ports"]}
    assert get(service, asked["path"])[0] == 200


def test_the_monitor_scrapes(service: Service) -> None:
    """Prometheus gets the series at the path of the ServiceMonitor, without a key."""
    [endpoint] = base()["ServiceMonitor"]["spec"]["endpoints"]
    status, body = get(service, endpoint["path"])

    assert status == 200
    assert b"\nml_requests_total{" in body


def test_the_analysis_reads_a_status(service: Service) -> None:
    """The address, the header and the path in the answer are right, and the conditions name statuses that exist."""
    [metric] = base()["AnalysisTemplate"]["spec"]["metrics"]
    web = metric["provider"]["web"]
    address = web["url"].replace("{{args.model-version}}", "1")
    path = address.removeprefix(f"http://{base()['Service']['metadata']['name']}")
    headers = {entry["key"]: entry["value"].replace("{{args.api-key}}", KEY) for entry in web["headers"]}
    status, body = get(service, path, headers)
    found = json.loads(body)[web["jsonPath"].removeprefix("{$.").removesuffix("}")]

    assert status == 200
    assert found == "insufficient_data"
    named = set(re.findall(r'"(\w+)"', metric["successCondition"] + metric["failureCondition"]))
    assert named | {found} == {"ok", "improved", "degraded", "insufficient_data"}


def test_the_container_ends_within_its_grace(service: Service) -> None:
    """It stops at SIGTERM with exit code 0, and its grace is longer than preStop and the drain together."""
    pod = pods()["Deployment"]
    sleep = float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])

    assert service.end(signal.SIGTERM) == 0
    assert pod["terminationGracePeriodSeconds"] > sleep + Config().server.drain_timeout + 10
