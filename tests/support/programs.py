"""Programs that the tests use where they are installed, and that must be there in CI."""

from __future__ import annotations

import os
import shutil

import pytest


def require_tool(*names: str) -> str:
    """The path of the first of these programs that is installed; without one the test is skipped, and fails in CI."""
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        absent = f"{' or '.join(names)} is not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(absent)
    return found
