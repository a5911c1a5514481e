"""Write the software bill of materials (CycloneDX JSON) of what the service is installed with.

It is made from the lock of the runtime: names, versions and hashes; nothing is downloaded.
"""

from __future__ import annotations

import json
import re
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.environment import PROJECT, ROOT, RUNTIME

OUT = "sbom.cdx.json"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def read_lock(text: str) -> Iterator[dict[str, Any]]:
    """Every pinned package of a lock as a component."""
    component: dict[str, Any] | None = None
    for line in text.splitlines():
        if pin := _PIN.match(line):
            if component is not None:
                yield component
            name, version = re.sub(r"[-_.]+", "-", pin[1]).lower(), pin[2]
            component = {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
            component |= {"bom-ref": component["purl"], "hashes": []}
            if pin[3]:
                component["properties"] = [{"name": "plumbline:marker", "value": pin[3]}]
        elif component is not None:
            component["hashes"] += [{"alg": "SHA-256", "content": found} for found in _HASH.findall(line)]
    if component is not None:
        yield component


def bill(lock: str, project: Mapping[str, Any]) -> dict[str, Any]:
    """The bill: the same lock gives the same one."""
    components = list(read_lock(lock))
    root = {"type": "application", "bom-ref": "plumbline", "name": project["name"], "version": project["version"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, lock)}",
        "version": 1,
        "metadata": {"component": root},
        "components": components,
        "dependencies": [{"ref": "plumbline", "dependsOn": sorted(each["bom-ref"] for each in components)}],
    }


def main(root: Path = ROOT) -> None:
    """Write the bill beside the lock."""
    project = tomllib.loads((root / PROJECT).read_text(encoding="utf-8"))["project"]
    made = bill((root / RUNTIME).read_text(encoding="utf-8"), project)
    (root / OUT).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(made['components'])} components")


if __name__ == "__main__":
    main()
