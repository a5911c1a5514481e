"""What the tests share: the example bundle and a PostgreSQL server, both real, made when first asked for."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

from app.background import Child
from tests.support.models.tasks import Fitted, build_all
from tests.support.processes import ROOT, Postgres

PRELOADED = (
    "app.monitoring.checks",
    "app.monitoring.worker",
    "app.serving.bundle.verification",
    "app.serving.runtimes.onnx",
    "app.serving.runtimes.sklearn",
    "app.serving.shadow",
    "pandas",
    "sklearn.pipeline",
    "sklearn.linear_model",
    "skops.io",
)
"""What the processes beside an application import: a second or two each time, where each begins with nothing."""


def pytest_configure() -> None:
    """Make a run the same on every machine: fixed examples, no limit of time, and processor time beside other programs.

    A worker of pytest-xdist begins a session of its own. Linux shares the processor out between sessions first: without
    it, a check, which has the lowest priority, gets nothing beside a busy program that the same shell has started.
    """
    settings.register_profile(
        "plumbline", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("plumbline")
    threadpool_limits(limits=1)  # several threads of OpenMP wait for each other at full speed beside another worker
    Child.start_method = "forkserver"
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    if "PYTEST_XDIST_WORKER" in os.environ and os.getsid(0) != os.getpid():
        os.setsid()


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    """Leave the log to the next test as it was: a command that ran in this process has sent it to its own output."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def example_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with the breast_cancer example in it, which one worker builds for all."""
    return _example(tmp_path_factory.getbasetemp(), "breast_cancer")


@pytest.fixture(scope="session")
def flights_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with the flights example in it, which one worker builds for all."""
    return _example(tmp_path_factory.getbasetemp(), "flights")


def _example(place: Path, name: str) -> Path:
    folder = (place.parent if "PYTEST_XDIST_WORKER" in os.environ else place) / f"{name}-models"
    with folder.with_suffix(".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not folder.exists():
            build: list[str | Path] = [sys.executable, ROOT / "models" / "examples.py", name, "--models", folder]
            subprocess.run(build, check=True, cwd=ROOT)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for databases that nobody crashes."""
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Fitted]]:
    """A folder of small bundles, one of each task and label type, and what they were made of."""
    folder = tmp_path_factory.mktemp("small")
    return folder, build_all(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.empty_database()
