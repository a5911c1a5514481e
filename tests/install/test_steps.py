"""A step prints one line with its time, and its cause where it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.steps import StepFailed, run_step
from tests.support.processes import ROOT


def python(code: str) -> list[str]:
    """A command that runs code."""
    return [sys.executable, "-c", code]


def test_one_line_with_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All output of the commands goes to the log, in order."""
    log = tmp_path / "cache" / "log"
    run_step("packages", "two of them", [python("print('first')"), python("print('second')")], log)
    printed = capsys.readouterr().out
    written = [line for line in log.read_text().splitlines() if not line.startswith("$")]

    assert printed.split()[:4] == ["packages", "two", "of", "them"]
    assert printed.endswith(" s\n")
    assert printed.count("\n") == 1
    assert written == ["first", "second"]


@pytest.mark.parametrize(
    ("printed", "cause"),
    [
        ("one\nERROR: early\nERROR: late\n\nafter it", "late"),
        ("Traceback\nValueError: no number", "ValueError: no number"),
        ("", "the command ended with status 3"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: No matching distribution",
            "the package index did not answer: No matching distribution",
        ),
    ],
    ids=["pip", "other", "silent", "network"],
)
def test_the_cause_is_one_line(tmp_path: Path, printed: str, cause: str) -> None:
    """It is pip's last error, or the last line; what earlier commands said does not count."""
    commands = [python("print('ERROR: of another command')"), python(f"print({printed!r}); raise SystemExit(3)")]
    with pytest.raises(StepFailed) as failure:
        run_step("packages", "", commands, tmp_path / "log")

    assert str(failure.value) == f"{cause} (all output: {tmp_path / 'log'})"


def test_a_command_that_is_killed(tmp_path: Path) -> None:
    """The signal is named; the commands after it do not run."""
    kill = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(StepFailed, match="ended by signal 9"):
        run_step("packages", "", [kill, python("print('ran')")], tmp_path / "log")

    assert "\nran\n" not in (tmp_path / "log").read_text()


def test_one_step_from_the_command_line(tmp_path: Path) -> None:
    """An example has a line of its own, and its failure ends make."""
    command = [sys.executable, "-m", "scripts.steps", str(tmp_path / "log"), "example", "models/flights/1", "--"]
    done = subprocess.run(
        [*command, *python("raise SystemExit('no data')")], cwd=ROOT, check=False, capture_output=True, text=True
    )

    assert done.stdout.startswith("example      models/flights/1")
    assert (done.returncode, done.stderr) == (1, f"error: no data (all output: {tmp_path / 'log'})\n")
