"""The page on security names tests that exist, and what it says of dependencies and operations holds."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"


def test_every_named_test_exists() -> None:
    """Each row of both tables names its tests, and all of them are there."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "`test_" in line]
    named = {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}
    found = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))
    }

    assert len(rows) == 17 + 10
    assert named - found == set()


def test_no_multipart_parser_is_installed() -> None:
    """Nothing in the service reads forms: their parser is in no lock."""
    for lock in ("requirements.lock", "requirements-dev.lock"):
        assert "python-multipart" not in (ROOT / lock).read_text(encoding="utf-8")
