"""The tutorial's commands do what it says they do, typed one after the other in an empty folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadlines import wait_until
from tests.support.processes import ROOT, Service, free_port

pytestmark = pytest.mark.fault
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
SERVE = "PLUMBLINE__SERVING__ACTIVE=credit plumbline serve &"


def blocks(language: str) -> list[str]:
    """The code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)


class Folder:
    """An empty folder, and a port of its own in the place of the usual one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE")}
        own = {"PLUMBLINE__SERVER__PORT": str(self.port), "PLUMBLINE_URL": f"http://127.0.0.1:{self.port}"}
        self.environ = kept | own | {"PATH": programs}

    def type_in(self, commands: str) -> str:
        """What the commands print; each of them succeeds."""
        typed = commands.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        shell = ["bash", "-euo", "pipefail", "-c", typed]
        done = subprocess.run(shell, cwd=self.path, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{typed}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self) -> Service:
        """The service of the tutorial, in the background."""
        log = self.path / "service.log"
        environ = self.environ | {"PLUMBLINE__SERVING__ACTIVE": "credit"}
        with log.open("wb") as sink:
            process = subprocess.Popen(["plumbline", "serve"], cwd=self.path, env=environ, stdout=sink, stderr=sink)
        return Service(process, self.port, log)


def test_from_a_file_to_the_first_alert(tmp_path: Path) -> None:
    """Each command succeeds and prints what the text says: a bundle, an answer, a drift, an alert, a version."""
    folder = Folder(tmp_path)
    (script,) = blocks("python")
    (tmp_path / "train.py").write_text(script)
    fit, init, bundle, serve, status, first, drift, silence, version = blocks("sh")
    assert serve.strip() == SERVE
    folder.type_in(fit + init)
    bundled = folder.type_in(bundle)
    service = folder.serve()
    try:
        service.wait_ready()
        before = folder.type_in(status)
        answered = folder.type_in(first)
        found = folder.type_in(drift)
        wait_until(lambda: "feature_drift" in folder.type_in("plumbline alerts"))
        quiet = folder.type_in(silence)
        versions = folder.type_in(version)
        ended = service.end(signal.SIGTERM)
    finally:
        service.process.kill()
        service.process.wait()

    assert "fit for verdicts on drift of features: yes, drift of predictions: yes, performance: yes" in bundled
    assert re.search(r"^model +credit 1$", before, re.MULTILINE)
    answer, end = json.JSONDecoder().raw_decode(answered)
    assert answer["prediction_id"] == "loan-1"
    assert json.loads(answered[end:])["status"] == "matched"
    assert "income" in found
    assert re.search(r"^alerts +\d firing: .*feature_drift \(\w+, silenced\)", quiet, re.MULTILINE)
    assert versions.splitlines()[-2:] == ["credit 2 answers now", "credit 1 answers now"]
    assert ended == 0


def test_the_training_rows_are_no_holdout(tmp_path: Path) -> None:
    """As the tutorial says, the rows that the model was fitted on are refused as a holdout, with their share."""
    folder = Folder(tmp_path)
    (tmp_path / "train.py").write_text(blocks("python")[0])
    folder.type_in("python train.py")
    words = "model.skops --data train.csv --holdout train.csv --target repaid --name credit"
    shell = ["bash", "-c", f"plumbline bundle {words}"]
    done = subprocess.run(shell, cwd=tmp_path, env=folder.environ, capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert "3000 of 3000 rows of the holdout (100%) are rows of the training data" in done.stderr
    marked = folder.type_in(f"plumbline bundle {words} --in-sample; cat models/credit/1/profile.json")
    assert '"in_sample": true' in marked
    assert "drift of predictions: no, performance: no" in marked
