"""The example of docs/exports.md runs on real exports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT, serving


def test_the_example_for_pandas_runs(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands write both files, and its lines give the accuracy of the rows and the change in missing values."""
    fitted = small_models[1]["mixed"]
    page = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
    commands = re.findall(r"^plumbline (export --for pandas .*)$", page, re.MULTILINE)
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with serving(tmp_path, models=small_models[0], settings={"SERVING__ACTIVE": "mixed"}) as service:
        _, answer = service.call("POST", "/predict", {"instances": fitted.rows})
        given = zip(answer["predictions"], fitted.data["y"].tolist(), strict=True)
        outcomes = [{"prediction_id": item["prediction_id"], "outcome": label} for item, label in given]
        assert service.call("POST", "/outcome", {"outcomes": outcomes})[0] == 200
        for command in commands:
            words = command.replace("--models models", f"--models {small_models[0]}").split()
            url = ("--url", f"http://127.0.0.1:{service.port}")
            environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
            subprocess.run([sys.executable, "-m", "app", *words, *url], cwd=tmp_path, env=environ, check=True)
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(example, found)  # noqa: S102 - our own example

    hits = [item["prediction"] == label for item, label in zip(answer["predictions"], fitted.data["y"], strict=True)]
    assert found["accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert set(found["missing"].index) == set(fitted.rows[0])  # type: ignore[attr-defined]
