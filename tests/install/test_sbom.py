"""The bill of materials has every pin of the lock, and is the same for the same lock."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
import uuid
from pathlib import Path

import pytest

from scripts.environment import PROJECT, ROOT, RUNTIME
from scripts.sbom import OUT, bill, main


def test_the_bill_is_that_of_the_lock() -> None:
    """Each pinned package is a component with its hashes and its address; nothing else is, and none is there twice."""
    lock = (ROOT / RUNTIME).read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / PROJECT).read_text(encoding="utf-8"))["project"]

    made = bill(lock, project)
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", lock, re.MULTILINE)

    assert len(pins) > 30
    assert [(each["name"], each["version"]) for each in made["components"]] == pins
    assert sum(len(each["hashes"]) for each in made["components"]) == lock.count("--hash=sha256:")
    assert all(each["hashes"] for each in made["components"])
    assert made["dependencies"][0]["dependsOn"] == sorted({each["purl"] for each in made["components"]})
    assert made == bill(lock, project)
    assert (made["bomFormat"], made["metadata"]["component"]["name"]) == ("CycloneDX", project["name"])


def test_the_written_bill_is_sound_cyclonedx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `make sbom` writes has every key that CycloneDX 1.6 requires, in its form, and refers to what is there."""
    for name in (PROJECT, RUNTIME):
        shutil.copy(ROOT / name, tmp_path / name)
    main(tmp_path)
    made = json.loads((tmp_path / OUT).read_text(encoding="utf-8"))
    references = [made["metadata"]["component"]["bom-ref"], *(each["bom-ref"] for each in made["components"])]

    assert capsys.readouterr().out == f"{OUT}: {len(made['components'])} components\n"
    assert made["specVersion"] == "1.6"
    assert uuid.UUID(made["serialNumber"].removeprefix("urn:uuid:")).urn == made["serialNumber"]
    assert len(references) == len(set(references)) > 30
    for each in made["components"]:
        assert each["type"] == "library"
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[A-Za-z0-9.+!-]+", each["purl"])
        assert all(re.fullmatch("[0-9a-f]{64}", digest["content"]) for digest in each["hashes"])
        assert {digest["alg"] for digest in each["hashes"]} == {"SHA-256"}
    for entry in made["dependencies"]:
        assert {entry["ref"], *entry["dependsOn"]} <= set(references)
