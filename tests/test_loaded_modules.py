"""What a service and its checks do not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.deadlines import DEADLINE_S

ROOT = Path(__file__).parents[1]
NEVER = ("httpx", "pandas", "sklearn", "scipy", "opentelemetry.sdk", "opentelemetry.exporter", "requests")
"""Libraries of other commands, of checks, and of what is off."""
SERVE = """
import sys
from app.cli import main
sys.argv = ["plumbline", "serve"]
try:
    main()
except SystemExit:
    print("loaded:", *sorted(sys.modules))
"""
CHECK = """
import sys
import numpy as np
import app.monitoring.checks, app.monitoring.worker
from app.monitoring.performance.scoring import Scored
from app.types import ModelSchema, Task
schema = ModelSchema("m", "1", Task.BINARY, (), classes=("no", "yes"), positive="yes")
answers = Scored(schema, np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4]]))
assert answers.measure()
print("loaded:", *sorted(sys.modules))
"""
STORE = """
import os, sys
import app.monitoring.worker
from app.store.database import open_database
from app.store.migrate import create_apart, upgrade
create_apart(os.environ["PLUMBLINE__STORE__URL"])
database = open_database(os.environ["PLUMBLINE__STORE__URL"])
before, after = upgrade(database.writer)
database.close()
print("loaded:", *sorted(sys.modules), "tables" if before == after else "")
"""


def loaded(script: str, **settings: str) -> set[str]:
    """The modules that a process of its own has loaded at its end."""
    environ = os.environ | {f"PLUMBLINE__{name}": value for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    words = done.stdout.rpartition("loaded:")[2].split()
    assert "app.monitoring.worker" in words, done.stderr
    return set(words)


def test_serve_loads_nothing_that_it_never_uses(tmp_path: Path) -> None:
    """A service that ends for want of a model has loaded all its parts, and no library of another command."""
    modules = loaded(SERVE, SERVING__MODELS=str(tmp_path), STORE__URL=f"sqlite:///{tmp_path / 'store.db'}")

    assert "app.main" in modules
    assert modules & set(NEVER) == set()


def test_a_check_without_an_estimate_loads_no_scikit_learn() -> None:
    """Drift and realised performance need NumPy and SciPy's special functions; all the rest takes 130 MiB more."""
    assert loaded(CHECK) & {"sklearn", "pandas", "scipy.stats", "scipy.optimize"} == set()


def test_a_service_on_a_new_store_has_not_loaded_alembic(tmp_path: Path) -> None:
    """The tables are there, and what made them was loaded in another process."""
    store = tmp_path / "store.db"
    modules = loaded(STORE, STORE__URL=f"sqlite:///{store}")

    assert ("tables" in modules) == sys.platform.startswith("linux")
    assert not any(name.split(".")[0] == "alembic" for name in modules)
