"""`plumbline simulate` against a real service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Service, serving
from tests.support.programs import Done, run_command


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, example_models: Path) -> Iterator[Service]:
    """The example on a SQLite file of its own."""
    with serving(tmp_path_factory.mktemp("simulate"), models=example_models) as running:
        yield running


def run(service: Service, models: Path, *options: str) -> Done:
    """One simulation against the service."""
    return run_command("simulate", "--url", f"http://127.0.0.1:{service.port}", "--models", models, *options)


def test_rows_and_outcomes_arrive(service: Service, example_models: Path) -> None:
    """Every row is stored, every outcome finds its prediction, and the summary ends with the monitor's verdicts."""
    done = run(service, example_models, "--rows", "300", "--batch", "10")

    assert done.returncode == 0, done.stderr
    assert "300 matched" in done.stdout
    assert "rows refused         │ 0" in done.stdout
    assert "accuracy" in done.stdout


def test_traffic_without_a_drift_alarms_nobody(service: Service, example_models: Path) -> None:
    """Many more rows than the example has end with stable inputs, and no finding or alert speaks of the simulation."""
    done = run(service, example_models, "--rows", "1500", "--batch", "50")
    _, drift = service.call("GET", "/drift")
    _, alerts = service.call("GET", "/alerts?state=firing")

    assert done.returncode == 0, done.stderr
    assert "fresh rows of the same law are sent after them" in done.stdout.replace("\n", " ")
    assert (drift["status"], drift["data_quality"]["findings"]) == ("stable", [])
    assert alerts["items"] == []


def test_a_simulated_shift_is_found(tmp_path: Path, example_models: Path) -> None:
    """A shift of two standard deviations in one feature ends with a drift report that names it."""
    options = (
        "--rows",
        "1000",
        "--batch",
        "50",
        "--drift",
        "shift",
        "--amount",
        "2",
        "--feature",
        "mean_texture",
        "--from-row",
        "0",
    )
    with serving(tmp_path, models=example_models) as service:  # without the other tests' rows in the window
        done = run(service, example_models, *options)

    assert done.returncode == 0, done.stderr
    assert "drift: mean_texture" in done.stdout


def test_an_impossible_drift_is_one_line(service: Service, example_models: Path) -> None:
    """Missing values in a model that takes none are refused in one line, with exit code 1."""
    done = run(service, example_models, "--drift", "missing")

    assert done.returncode == 1
    assert done.stderr.strip() == "error: --drift missing: needs a nullable feature; nullable here: none"
