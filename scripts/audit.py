"""Compare both locks with security advisories in files: ``python -m scripts.audit FILE...``; nothing is downloaded.

The files have the OSV format: a record, a list of records, or an archive of such files as OSV exports an ecosystem.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from pip._vendor.packaging.version import InvalidVersion, Version  # what pip itself reads them by, wherever pip is

from scripts.environment import DEVELOPMENT, ROOT, RUNTIME
from scripts.sbom import read_lock
from scripts.steps import StepFailed, finish

ECOSYSTEM = "PyPI"
MAX_SUMMARY = 100


def read_advisories(files: Iterable[Path]) -> Iterator[Mapping[str, Any]]:
    """Every record about a Python package that is not withdrawn.

    Raises:
        StepFailed: a file cannot be read.
    """
    for file in files:
        try:
            texts = _texts(file)
            for text in texts:
                content = json.loads(text)
                for record in content if isinstance(content, list) else [content]:
                    if "withdrawn" not in record and any(map(_is_ours, record.get("affected", ()))):
                        yield record
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise StepFailed(f"{file}: is no file of advisories ({error})") from None


def _texts(file: Path) -> Iterator[bytes]:
    if file.suffix != ".zip":
        yield file.read_bytes()
        return
    with ZipFile(file) as archive:
        yield from (archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def _is_ours(affected: Mapping[str, Any]) -> bool:
    return bool(affected.get("package", {}).get("ecosystem") == ECOSYSTEM)


def findings(lock: str, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each pin of a lock and each advisory that it is affected by."""
    pins = {component["name"]: component["version"] for component in read_lock(lock)}
    found = set()
    for record in records:
        for affected in filter(_is_ours, record["affected"]):
            name = re.sub(r"[-_.]+", "-", affected["package"]["name"]).lower()
            if name in pins and is_affected(pins[name], affected):
                summary = str(record.get("summary", "")).split("\n", 1)[0][:MAX_SUMMARY]
                found.add(f"{name} {pins[name]}: {record['id']} {summary}".rstrip())
    return sorted(found)


def is_affected(pinned: str, affected: Mapping[str, Any]) -> bool:
    """Whether a version is listed, or lies in a range: behind what introduced the fault, and before what mended it.

    >>> affected = {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.0"}, {"fixed": "1.4"}]}]}
    >>> [is_affected(version, affected) for version in ("0.9", "1.0", "1.3.9", "1.4", "2.0")]
    [False, True, True, False, False]
    """
    if pinned in affected.get("versions", ()):
        return True
    ranges = (each for each in affected.get("ranges", ()) if each.get("type") == "ECOSYSTEM")
    return any(_lies_in(Version(pinned), each["events"]) for each in ranges)


def _lies_in(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """OSV's own way: the events in the order of their versions; the last one that is not behind the version counts."""
    is_in = False
    for at, kind in sorted((_version(text), kind) for event in events for kind, text in event.items()):
        if kind == "introduced" and version >= at:
            is_in = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            is_in = False
    return is_in


def _version(text: str) -> Version:
    """A bound; one that is no version, which old records have, lies behind every release."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("9999!0")


def main(files: Iterable[str] = ()) -> None:
    """Print the findings of both locks; status 1 where there are any."""
    records = list(read_advisories(map(Path, files or sys.argv[1:])))
    if not records:
        raise StepFailed(f"no advisory of the ecosystem {ECOSYSTEM}: name a file in OSV format, ADVISORIES=all.zip")
    found = [
        f"{lock}: {line}" for lock in (RUNTIME, DEVELOPMENT) for line in findings((ROOT / lock).read_text(), records)
    ]
    print(*found, f"{len(records)} advisories compared, {len(found)} findings", sep="\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    finish(main)
