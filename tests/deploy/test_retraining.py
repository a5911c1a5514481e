"""The retraining flow of ``deploy/airflow``, from the webhook's request to the activation of a better model."""

from __future__ import annotations

import ast
import json
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.airflow import retraining
from tests.support.deploy.containers import run
from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT, Service, serving
from tests.support.receivers import Webhook, webhook

AIRFLOW = ROOT / "deploy" / "airflow"
TRAIN = """
import sys
import pandas as pd
import skops.io
from sklearn.linear_model import LogisticRegression

data, target, model = sys.argv[1:]
rows = pd.read_csv(data)
fitted = LogisticRegression().fit(rows.drop(columns=target), rows[target])
skops.io.dump(fitted, model)
"""
FLIPPED = {"yes": "no", "no": "yes"}


def settings(models: Path, hook: Webhook) -> dict[str, str]:
    """The settings of a service that asks Airflow for a retraining as docs/retraining.md says."""
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "retraining.md").read_text("utf-8"), re.DOTALL)
    [example] = [text for text in examples if "/api/v2/dags/" in text]
    asked = yaml.safe_load(example)["alerts"]["retrain"]
    del models, asked["headers"]
    asked["url"] = f"http://127.0.0.1:{hook.port}/api/v2/dags/plumbline_retrain/dagRuns"
    return {
        "SERVING__ACTIVE": "text/1",
        "DRIFT__EVERY": "1d",
        "PERFORMANCE__EVERY": "1d",
        "ALERTS__RETRAIN": json.dumps(asked),
    }


def send(service: Service, fitted: Fitted, version: str) -> None:
    """Send all rows with the other truth than the one of old, and check a version."""
    status, answer = service.call("POST", "/predict", {"instances": fitted.rows})
    assert status == 200
    truth = [FLIPPED[label] for label in fitted.data["y"]]
    outcomes = [
        {"prediction_id": given["prediction_id"], "outcome": label}
        for given, label in zip(answer["predictions"], truth, strict=True)
    ]
    assert service.call("POST", "/outcome", {"outcomes": outcomes})[0] == 200
    assert service.call("POST", f"/checks?model_version={version}")[0] == 200


def test_a_drop_leads_to_a_better_model(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service asks, the steps make a bundle, it is compared as a shadow, and answers."""
    fitted, models = small_models[1]["text"], tmp_path / "models"
    (models / "text").mkdir(parents=True)
    (models / "text" / "1").symlink_to(small_models[0] / "text" / "1")
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    monkeypatch.setattr(retraining, "MIN_LABELLED", 200)
    steps = retraining.STEPS
    with webhook() as hook:
        chosen = settings(models, hook)
        with serving(tmp_path, models=models, settings=chosen) as service:
            set_environment(monkeypatch, tmp_path, models, service)
            send(service, fitted, "1")
            hook.wait_for(1)
            conf: Mapping[str, Any] = {**hook.taken[0]["conf"], "dag_run_id": hook.taken[0]["dag_run_id"]}
            conf = {**conf, "export_url": re.sub(r":\d+/", f":{service.port}/", conf["export_url"])}
            for step in ("fetch", "train", "bundle"):
                steps[step](conf)
            version = retraining.new_version(conf)
            service.end(signal.SIGTERM)
        with serving(
            tmp_path, models=models, settings={**chosen, "SERVING__SHADOWS": json.dumps([version])}
        ) as service:
            set_environment(monkeypatch, tmp_path, models, service)
            steps["shadow"](conf)
            send_until_stored(service, fitted, version)
            assert steps["compare"](conf) is True
            assert steps["activate"](conf)["version"] == version
            assert retraining.ask("/models/text")["versions"][-1]["role"] == "active"


def send_until_stored(service: Service, fitted: Fitted, version: str) -> None:
    """Send rows until a check of the shadow has seen its answers, which come after those of the champion."""
    while True:
        send(service, fitted, version)
        found = retraining.ask(f"/performance?model_version={version}").get("beside", {})
        if any(each["labelled"] >= retraining.MIN_LABELLED for each in found.values()):
            return


def set_environment(monkeypatch: pytest.MonkeyPatch, folder: Path, models: Path, service: Service) -> None:
    """The environment of the steps."""
    for name, value in {
        "URL": f"http://127.0.0.1:{service.port}",
        "WORK": str(folder / "work"),
        "MODELS": str(models),
        "TRAIN": f"{sys.executable} {folder / 'train.py'}",
        "SHADOW": "true",
    }.items():
        monkeypatch.setenv(f"PLUMBLINE_{name}", value)


def test_the_dag_and_the_script_have_the_same_steps() -> None:
    """Airflow, the shell script and the workflow run the steps of retraining.py in their order."""
    dag = ast.parse((AIRFLOW / "plumbline_retrain.py").read_text(encoding="utf-8"))
    called = [
        node.func.attr
        for node in ast.walk(dag)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "retraining"
    ]
    script = (AIRFLOW / "retrain.sh").read_text(encoding="utf-8")

    assert called == list(retraining.STEPS)
    assert f"for step in {' '.join(retraining.STEPS)}; do" in script
    workflow = yaml.safe_load((AIRFLOW / "github-workflow.yaml").read_text(encoding="utf-8"))
    run_line = workflow["jobs"]["retrain"]["steps"][-1]["run"]
    assert "deploy/airflow/retrain.sh" in run_line


def test_the_script_stops_at_the_first_step_that_fails(tmp_path: Path) -> None:
    """A fetch that finds no service ends the script, and nothing is trained or activated."""
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PLUMBLINE_WORK": str(tmp_path)}
    conf = json.dumps({"dag_run_id": "r", "model": "m", "export_url": "http://127.0.0.1:9/"})
    ended = run([str(AIRFLOW / "retrain.sh"), conf], environ)

    assert ended.returncode != 0
    assert ended.stdout.split("== ")[1:] == ["fetch\n"]
