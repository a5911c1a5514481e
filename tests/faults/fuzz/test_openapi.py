"""Generated requests of every operation, good and bad, get what the OpenAPI description says."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.http.fuzz import KEY, assert_unharmed, examples, keyed_settings
from tests.support.load import live_row
from tests.support.processes import Service, serving

pytestmark = pytest.mark.fault
USUAL = 280
"""Random requests of a run, beside some 2,000 that walk through the bounds of each parameter."""
LEFT_OUT = (
    "positive_data_acceptance",  # a schema cannot say that a silence must not be over, or that ids are one an instance
    "ignored_auth",  # after a few wrong keys an address is told to wait, with 429
)
"""Checks of schemathesis that say nothing here; ``tests/api`` has both with requests that are made for it."""

LEFT_OUT_OF_NEW = ("negative_data_rejection",)
"""By chance a wrong object in a query is the text of a good string, and a wrong second key stands beside a good one."""


def operations(service: Service) -> int:
    """How many operations the description of a service has."""
    _, described = service.call("GET", "/openapi.json")
    return sum(len(item) for item in described["paths"].values())


def schemathesis(folder: Path, service: Service) -> subprocess.CompletedProcess[str]:
    """Try the operations of a service; the usual number of examples is the same ones each time."""
    number = examples(USUAL)
    arguments = [
        f"http://127.0.0.1:{service.port}/openapi.json",
        f"--header=X-API-Key: {KEY}",
        f"--max-examples={math.ceil(number / operations(service))}",
        "--phases=examples,coverage,fuzzing,stateful",
        f"--exclude-checks={','.join(LEFT_OUT if number == USUAL else LEFT_OUT + LEFT_OUT_OF_NEW)}",
        f"--request-timeout={DEADLINE_S}",
        "--continue-on-failure",
        "--no-color",
        *(["--generation-deterministic", "--no-shrink"] if number == USUAL else []),
    ]
    program = Path(sys.executable).with_name("schemathesis")
    return subprocess.run([program, "run", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_every_answer_is_described(tmp_path: Path, example_models: Path) -> None:
    """No answer is a 5xx or has a status, a type, a header or a body that the description does not name."""
    with serving(tmp_path, models=example_models, settings=keyed_settings()) as service:
        tried = schemathesis(tmp_path, service)

        assert tried.returncode == 0, tried.stdout + tried.stderr
        assert f"Tested: {operations(service)}" in tried.stdout
        assert_unharmed(service, live_row(example_models))
