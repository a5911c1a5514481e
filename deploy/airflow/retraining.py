"""The steps of a retraining: fetch, train, bundle, shadow, compare, activate.

Each is a plain function, and a command: ``python retraining.py STEP CONF``. ``CONF`` is the JSON object that
``alerts.retrain`` sends, and the environment has the rest:

PLUMBLINE_URL, PLUMBLINE_API_KEY: the service, and a key with the scopes ``read`` and ``admin``.
PLUMBLINE_WORK: a folder that all steps share. PLUMBLINE_MODELS: the folder of bundles that the replicas read.
PLUMBLINE_TRAIN: your command; it gets ``train.csv``, the name of the target, and the model file to write.
PLUMBLINE_SHADOW: your command; it gets the version, and rolls out ``serving.shadows`` with it.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

TARGET = "outcome"
HOLDOUT_EVERY = 4
"""Each fourth row is kept from training: the reference must be rows that the model was not fitted on."""
MIN_LABELLED = 300
"""Outcomes of the shadow after which it is compared, once: who looks again and again finds a difference by chance."""
WAIT_S = 7 * 86_400.0
LOOK_EVERY_S = 60.0
TIMEOUT_S = 60.0
Conf = Mapping[str, Any]


def ask(path: str, body: object = None) -> Any:
    """The JSON answer of the service to a GET, or to a POST with a body."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(os.environ["PLUMBLINE_URL"] + path, data, _headers())  # noqa: S310 - the service's own address
    with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
        return json.load(answer)


def _headers() -> dict[str, str]:
    key = os.environ.get("PLUMBLINE_API_KEY")
    return {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}


def work(conf: Conf) -> Path:
    """The folder of this retraining: a repeated step finds what the step before has left."""
    folder = Path(os.environ["PLUMBLINE_WORK"]) / str(conf["dag_run_id"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def new_version(conf: Conf) -> str:
    """The version that this retraining makes: the request's own id, so that a repeated step makes no second one."""
    return str(conf["dag_run_id"])


def fetch(conf: Conf) -> Path:
    """Write the labelled rows of ``export_url`` to train.csv and holdout.csv; the folder that has them."""
    folder = work(conf)
    request = Request(conf["export_url"], headers=_headers())  # noqa: S310 - the address that the service gave
    with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
        rows = [json.loads(line) for line in answer]
    if not rows:
        raise ValueError("no labelled rows: nothing to train on")
    names = [*rows[0]["features"], TARGET]
    for name, kept in (("train.csv", False), ("holdout.csv", True)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for place, row in enumerate(rows):
                if (place % HOLDOUT_EVERY == 0) == kept:
                    writer.writerow({**row["features"], TARGET: row["outcome"]["outcome"]})
    return folder


def train(conf: Conf) -> Path:
    """Run your command; the model file that it wrote."""
    folder = work(conf)
    model = folder / "model.skops"
    _run(os.environ["PLUMBLINE_TRAIN"], folder / "train.csv", TARGET, model)
    return model


def bundle(conf: Conf) -> str:
    """Make a bundle in the folder that the replicas read; its version."""
    folder = work(conf)
    options = {
        "--data": folder / "train.csv",
        "--holdout": folder / "holdout.csv",
        "--target": TARGET,
        "--name": conf["model"],
        "--version": new_version(conf),
        "--models": os.environ["PLUMBLINE_MODELS"],
    }
    words = [str(word) for option in options.items() for word in option]
    _run(f"{shlex.quote(sys.executable)} -m app bundle", folder / "model.skops", *words, "--replace")
    return new_version(conf)


def shadow(conf: Conf) -> None:
    """Roll the version out as a shadow, and wait until the service says so.

    Raises:
        RuntimeError: it answers callers already: ``serving.active`` names no version, and a restart took the latest.
    """
    _run(os.environ["PLUMBLINE_SHADOW"], new_version(conf))
    _wait(lambda: _role(conf) in ("shadow", "active"))
    if _role(conf) == "active":
        raise RuntimeError("the version is active already: let serving.active name a version, as in credit/1")


def _role(conf: Conf) -> str | None:
    try:
        versions = ask(f"/models/{conf['model']}")["versions"]
    except OSError:  # the replica is being restarted
        return None
    return next((each["role"] for each in versions if each["version"] == new_version(conf)), None)


def compare(conf: Conf) -> bool:
    """Tell whether the shadow is better than the version that answers, by more than chance."""
    found: list[Any] = []

    def is_ready() -> bool:
        report = ask(f"/performance?model_version={new_version(conf)}")
        found[:] = [each for each in report.get("beside", {}).values() if each["labelled"] >= MIN_LABELLED]
        return bool(found)

    _wait(is_ready)
    return all(each["advantage"]["low"] > 0 for each in found)


def activate(conf: Conf) -> Any:
    """Activate the version; it is on probation then, and rolled back by the service where it fails."""
    return ask(f"/models/{conf['model']}/activate", {"version": new_version(conf)})


def _run(command: str, *words: object) -> None:
    subprocess.run([*shlex.split(command), *map(str, words)], check=True)  # noqa: S603 - the operator's own command


def _wait(met: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not met():
        if time.monotonic() > end:
            raise TimeoutError("the service did not come to it in time")
        time.sleep(LOOK_EVERY_S)


STEPS: Mapping[str, Callable[[Conf], Any]] = {
    step.__name__: step for step in (fetch, train, bundle, shadow, compare, activate)
}
"""The steps in their order."""

if __name__ == "__main__":
    result = STEPS[sys.argv[1]](json.loads(sys.argv[2]))
    print(result)  # noqa: T201 - the answer of the command
    sys.exit(0 if result is not False else 1)
