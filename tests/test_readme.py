"""The README's commands do what it says they do, typed one after the other against a service that it starts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.models.bundles import numbers
from tests.support.processes import ROOT, Service, free_port

pytestmark = pytest.mark.fault
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL))


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of a section in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path, example_models: Path) -> Path:
    """A folder as `make run` leaves it: the configuration, the example bundle and the environment."""
    shutil.copy(ROOT / "config.yaml", tmp_path)
    shutil.copytree(example_models, tmp_path / "models")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture
def service(checkout: Path) -> Iterator[Service]:
    """The service, started there on a port of its own."""
    port, log = free_port(), checkout / "service.log"
    environ = os.environ | {"PLUMBLINE__SERVER__PORT": str(port)}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [".venv/bin/plumbline", "serve"], cwd=checkout, env=environ, stdout=sink, stderr=sink
        )
    service = Service(process, port, log)
    try:
        service.wait_ready()
        yield service
    finally:
        process.kill()
        process.wait()


def type_in(folder: Path, commands: str, port: int = 8000) -> str:
    """What the commands print in a shell, with the service's port in place of the usual one."""
    here = f"127.0.0.1:{port}"
    typed = commands.replace("127.0.0.1:8000", here).replace(" simulate ", f" simulate --url http://{here} ")
    shell = ["bash", "-euo", "pipefail", "-c", typed]
    return subprocess.run(shell, check=True, cwd=folder, stdout=subprocess.PIPE, text=True).stdout


def documents(text: str) -> list[Any]:
    """The JSON documents that several answers printed, one behind the other."""
    found, decoder = [], json.JSONDecoder()
    while (text := text.lstrip()) and text[0] == "{":
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def test_the_first_five_minutes(checkout: Path, service: Service) -> None:
    """A first prediction, outcome and drift: each command succeeds, and answers what stands below it."""
    predict, outcome, drift = blocks("Five minutes", "sh")
    shown = [json.loads(block) for block in blocks("Five minutes", "json")]

    (predicted,) = documents(type_in(checkout, predict, service.port))
    again = documents(type_in(checkout, predict, service.port))
    changed = documents(type_in(checkout, predict.replace("10.65", "10.66"), service.port))
    reported, stored = documents(type_in(checkout, outcome, service.port))
    simulate, commands = drift.split("\n", 1)
    type_in(checkout, simulate, service.port)
    checks, drifted, performance = documents(type_in(checkout, commands, service.port))

    probabilities = predicted.pop("probabilities")
    assert probabilities == pytest.approx(shown[0].pop("probabilities"), abs=5e-4)
    assert [predicted, reported] == shown
    assert again == [{**predicted, "probabilities": probabilities}]
    assert "other features" in changed[0]["detail"]
    assert stored["outcome"]["outcome"] == "benign"
    assert {report["kind"] for report in checks["reports"]} >= {"drift", "performance"}
    assert drifted["drifted_features"] == ["mean_texture"]
    assert {finding["feature"] for finding in drifted["data_quality"]["findings"]} <= {"mean_texture"}
    assert 0 < performance["realised"]["metrics"]["accuracy"]["value"] <= 1


def test_your_own_model(checkout: Path) -> None:
    """A model of one's own is bundled by the command as it stands, and is then there to be served."""
    import skops.io
    from sklearn.linear_model import LogisticRegression

    data = numbers().rename(columns={"y": "outcome"})
    skops.io.dump(LogisticRegression().fit(data[["a", "b", "c"]], data["outcome"]), checkout / "model.skops")
    data[:160].to_csv(checkout / "train.csv", index=False)
    data[160:].to_csv(checkout / "test.csv", index=False)
    (commands,) = blocks("Your own model", "sh")
    bundle, serve = commands.splitlines()
    type_in(checkout, bundle)

    assert (checkout / "models" / "credit" / "1" / "bundle.yaml").is_file()
    assert serve == "PLUMBLINE__SERVING__ACTIVE=credit make run"
    assert "active: credit" in type_in(checkout, "PLUMBLINE__SERVING__ACTIVE=credit .venv/bin/plumbline check")


@pytest.mark.parametrize(
    "command", [line.split("#")[0].strip() for line in blocks("Two commands", "sh")[0].splitlines()]
)
def test_the_two_commands_are_there(command: str) -> None:
    """Each of the first two commands is one that make knows."""
    assert subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, check=True).stdout
