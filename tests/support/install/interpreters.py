"""The Pythons of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.environment import supported

OLDEST, NEWEST = supported()
SUPPORTED = range(OLDEST, NEWEST + 1)
PROBE = "import sys, ensurepip; print(sys.version_info.minor, sys.prefix == sys.base_prefix)"


def find_interpreter(minor: int) -> Path | None:
    """A Python 3 of this minor version that runs, makes environments and is none itself; None without one."""
    return next((python for python in _candidates(minor) if _runs(python, minor)), None)


def interpreter(minor: int) -> Path:
    """A Python 3 of this minor version; without one the test is skipped, and pytest's summary says so."""
    python = find_interpreter(minor)
    if python is None:
        pytest.skip(f"not tried with Python 3.{minor}, which this machine does not have")
    return python


def _candidates(minor: int) -> Iterator[Path]:
    """Files that may be such a Python; pyenv has its name on the PATH also where that version is switched off."""
    name = f"python3.{minor}"
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    own = sorted(versions.glob(f"3.{minor}.*"), key=lambda folder: [*map(int, re.findall(r"\d+", folder.name))])
    for folder in (Path(sys.base_prefix, "bin"), *map(Path, os.get_exec_path()), *(home / "bin" for home in own[::-1])):
        if os.access(folder / name, os.X_OK):
            yield folder / name


def _runs(python: Path, minor: int) -> bool:
    """Whether a candidate is what its name says."""
    probe = subprocess.run([python, "-I", "-c", PROBE], check=False, capture_output=True, text=True, timeout=60)
    return probe.stdout.split() == [str(minor), "True"]
