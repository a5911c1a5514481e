"""`make test` runs both groups and reports both, whatever the first one says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT

pytestmark = pytest.mark.fault

CONFIGURATION = "[pytest]\nmarkers =\n    fault\n    interpreters\n"
QUICK, FAULT = "def test_quick(): assert {}\n", "import pytest\n@pytest.mark.fault\ndef test_fault(): assert {}\n"

PROCESS = """
import subprocess, sys
def test_quick():
    subprocess.run([sys.executable, "-c", "from app import greet; greet(1)"], check=True)
"""
MEASURED = """
[tool.coverage.run]
branch = true
source = ["app"]
data_file = ".cache/coverage/data"
patch = ["subprocess"]
[tool.coverage.report]
precision = 1
fail_under = {limit}
"""


def run(folder: Path, *words: str) -> tuple[int, list[str]]:
    """Exit status and last lines of a run of both groups."""
    environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTEST_XDIST_AUTO_NUM_WORKERS": "1"}
    environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p xdist.plugin -p pytest_cov.plugin"}
    command = [sys.executable, "-m", "scripts.suite", *words]
    done = subprocess.run(command, cwd=folder, env=environ, check=False, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    return done.returncode, [*lines[lines.index("", len(lines) - 8) + 1 :], *done.stderr.splitlines()]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with one test of each group, both passing."""
    (tmp_path / "pytest.ini").write_text(CONFIGURATION)
    (tmp_path / "test_quick.py").write_text(QUICK.format(True))
    (tmp_path / "test_fault.py").write_text(FAULT.format(True))
    return tmp_path


def results(lines: list[str]) -> dict[str, str]:
    """The verdict and figures of each group, without its time."""
    return {
        line.split(":")[0]: line.split(": ", 1)[1].split(" in ")[0] for line in lines if line[:5] in ("quick", "fault")
    }


def test_both_pass(suite: Path) -> None:
    """Both groups are reported, and what to do next."""
    status, lines = run(suite)

    assert results(lines) == dict.fromkeys(("quick", "fault"), "passed: 1 passed, 0 failed, 0 skipped")
    assert (status, lines[-1].split(" serves")[0]) == (0, "next: make run")


@pytest.mark.parametrize("bad", ["quick", "fault"])
def test_one_fails(suite: Path, bad: str) -> None:
    """The other group runs and is reported all the same, the failed test is named, and the status says failure."""
    (suite / f"test_{bad}.py").write_text((QUICK if bad == "quick" else FAULT).format(False))
    status, lines = run(suite)
    passed, failed = "passed: 1 passed, 0 failed, 0 skipped", "FAILED: 0 passed, 1 failed, 0 skipped"

    assert results(lines) == {"quick": passed, "fault": passed, bad: failed}
    assert f"  test_{bad}::test_{bad}" in lines
    assert (status, lines[-1].endswith("-m pytest --last-failed runs only the tests that failed")) == (1, True)


@pytest.mark.parametrize(("limit", "verdict"), [(60, "enough"), (80, "TOO LITTLE")])
def test_coverage_has_a_limit(suite: Path, limit: int, verdict: str) -> None:
    """Lines that only a process of a test runs count; below the limit the run has failed though all tests pass."""
    (suite / "app").mkdir()
    (suite / "app" / "__init__.py").write_text("def greet(name):\n    if name:\n        return 1\n    return 2\n")
    (suite / "test_quick.py").write_text(PROCESS)
    (suite / "pyproject.toml").write_text(MEASURED.format(limit=limit))
    status, lines = run(suite, "--coverage")

    assert results(lines) == dict.fromkeys(("quick", "fault"), "passed: 1 passed, 0 failed, 0 skipped")
    assert [line.split(";")[0] for line in lines[2:3]] == [f"coverage: {verdict}: 66.7% of app/ by the quick group"]
    assert status == (verdict != "enough")
    assert "app/__init__.py" in (suite / ".cache" / "tests" / "coverage.txt").read_text()


def test_pytest_itself_fails(suite: Path) -> None:
    """A group whose tests cannot be collected has failed."""
    (suite / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    status, lines = run(suite)

    assert status == 1
    assert results(lines)["fault"] == "pytest ended with status 4 before a test ran"


def test_a_part_of_the_suite(suite: Path) -> None:
    """Words go to pytest; a group without such a test has not failed, but nothing at all is a failure."""
    status, lines = run(suite, "test_fault.py")
    nothing, _ = run(suite, "-k", "nothing")

    assert results(lines) == {"quick": "no such test", "fault": "passed: 1 passed, 0 failed, 0 skipped"}
    assert (status, nothing) == (0, 1)
