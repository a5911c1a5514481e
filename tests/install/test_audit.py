"""Advisories are compared with the locks by OSV's own rules, and a file without any is never taken for good news."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from scripts.audit import findings, is_affected, main, read_advisories
from scripts.environment import ROOT, RUNTIME
from scripts.sbom import read_lock
from scripts.steps import StepFailed

LOCK = "some-package==1.3.0 \\\n    --hash=sha256:" + "0" * 64 + "\nother==2.0\n"


def advisory(name: str = "Some_Package", ecosystem: str = "PyPI", **more: Any) -> dict[str, Any]:
    """A record about all versions from 1.0 up to 1.4."""
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "1.0"}, {"fixed": "1.4"}]}]
    affected = {"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges}
    return {"id": "X-1", "summary": "reads\nall", "affected": [affected], **more}


def test_a_pin_in_the_range_is_found() -> None:
    """By its name as indexes spell it; other packages, other ecosystems and mended versions are not."""
    assert findings(LOCK, [advisory(), advisory(), advisory("other")]) == ["some-package 1.3.0: X-1 reads"]
    assert findings(LOCK.replace("1.3.0", "1.4"), [advisory()]) == []
    assert findings(LOCK, [advisory(ecosystem="npm")]) == []


@pytest.mark.parametrize(
    ("events", "versions"),
    [
        ([{"introduced": "0"}], ["1.0", "2.5", "3.0"]),
        ([{"introduced": "2.0"}, {"introduced": "0"}, {"fixed": "1.1"}, {"fixed": "2.6"}], ["1.0", "2.5"]),
        ([{"introduced": "0"}, {"last_affected": "2.5"}], ["1.0", "2.5"]),
        ([{"introduced": "0"}, {"fixed": "no version"}], ["1.0", "2.5", "3.0"]),
        ([{"introduced": "3.0rc1"}], ["3.0"]),
    ],
)
def test_ranges(events: list[dict[str, str]], versions: list[str]) -> None:
    """Events come in any order, and a range may open again."""
    affected = {"ranges": [{"type": "ECOSYSTEM", "events": events}, {"type": "GIT", "events": [{"introduced": "0"}]}]}

    assert [version for version in ("1.0", "2.5", "3.0") if is_affected(version, affected)] == versions
    assert is_affected("7", {**affected, "versions": ["7"]})


def test_files_of_advisories(tmp_path: Path) -> None:
    """A record, a list, and an archive of records are read; withdrawn ones and other ecosystems are left out."""
    (tmp_path / "one.json").write_text(json.dumps(advisory()))
    (tmp_path / "list.json").write_text(json.dumps([advisory(), advisory(withdrawn="2026"), advisory(ecosystem="npm")]))
    with ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(tmp_path / "one.json", "X-1.json")
        archive.writestr("README", "no record")

    assert len(list(read_advisories(tmp_path / name for name in ("one.json", "list.json", "all.zip")))) == 3


def test_the_locks_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both locks are, each finding is a line, and the status tells of it."""
    pinned = next(iter(read_lock((ROOT / RUNTIME).read_text(encoding="utf-8"))))
    hit = advisory(pinned["name"])
    hit["affected"][0]["versions"] = [pinned["version"]]
    (tmp_path / "one.json").write_text(json.dumps(hit))
    (tmp_path / "other.json").write_text(json.dumps(advisory()))
    for name, status, lines in (("one", True, 3), ("other", False, 1)):
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path / f"{name}.json")])
        assert (ended.value.code, len(capsys.readouterr().out.splitlines())) == (status, lines)


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"affected": 1}', json.dumps(advisory(ecosystem="npm"))])
def test_no_advisory_is_no_answer(tmp_path: Path, text: str) -> None:
    """A file that says nothing about Python packages is an error: nothing was compared."""
    (tmp_path / "none.json").write_text(text)
    with pytest.raises(StepFailed, match="advisor"):
        main([str(tmp_path / "none.json")])
    with pytest.raises(StepFailed, match="absent"):
        main([str(tmp_path / "absent.zip")])
