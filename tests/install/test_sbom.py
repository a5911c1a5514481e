"""The bill of materials has every pin of the lock, and is the same for the same lock."""

from __future__ import annotations

import re
import tomllib

from scripts.environment import PROJECT, ROOT, RUNTIME
from scripts.sbom import bill


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
