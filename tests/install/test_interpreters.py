"""A fresh checkout answers under every supported Python: installed by make, asked as README.md says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from scripts.complete import __file__ as complete
from tests.support.install.checkouts import DROPPED, read_until
from tests.support.install.interpreters import SUPPORTED, interpreter
from tests.support.processes import ROOT, free_port
from tests.test_readme import blocks

pytestmark = [pytest.mark.fault, pytest.mark.interpreters]


def clone(folder: Path) -> Path:
    """A copy of the files that git knows or would add, without environment, cache and bundle."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("minor", SUPPORTED)
def test_make_run_answers(tmp_path: Path, minor: int) -> None:
    """`make run` installs the runtime lock with this Python's own pip, and README's first prediction is answered."""
    python, port = interpreter(minor), free_port()
    checkout = clone(tmp_path / "checkout")
    environ = {name: value for name, value in os.environ.items() if not name.startswith((*DROPPED, "PLUMBLINE__"))}
    environ |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    run = subprocess.Popen(
        ["make", "run", f"PYTHON={python}"],
        cwd=checkout,
        env=environ | {"PLUMBLINE__SERVER__PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    with run:
        try:
            printed = read_until(run, "Ctrl-C here stops it.", silence_s=900)
            assert "Plumbline answers" in printed, printed
            request = blocks("Five minutes", "sh")[0].replace("127.0.0.1:8000", f"127.0.0.1:{port}")
            answer = json.loads(subprocess.run(["bash", "-c", request], check=True, stdout=subprocess.PIPE).stdout)
        finally:
            os.killpg(run.pid, signal.SIGINT)
    environment = checkout / ".venv" / "bin" / "python"
    lacking = subprocess.run([environment, complete, "plumbline", "build"], check=False, capture_output=True, text=True)

    expected = json.loads(blocks("Five minutes", "json")[0])
    assert answer.pop("probabilities") == pytest.approx(expected.pop("probabilities"), abs=5e-4)
    assert answer == expected
    assert f"Python 3.{minor}." in printed
    assert (lacking.stdout.strip(), lacking.stderr) == ("", "")
