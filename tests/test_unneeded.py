"""What a service and its checks do not hold in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from app.monitoring.worker import UNNEEDED
from app.unneeded import hidden
from tests.support.deadlines import DEADLINE_S

ROOT = Path(__file__).parents[1]
NEVER = ("rich", "pygments", "httpx", "pandas", "sklearn", "scipy")
"""Libraries of other commands, of checks, and of errors in colour."""
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
from app.unneeded import Hidden, hidden
with hidden("rich"):  # as the command line does
    from app.monitoring.worker import UNNEEDED
sys.meta_path.insert(0, Hidden(*UNNEEDED))
import app.monitoring.checks, sklearn.ensemble, sklearn.metrics
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


def test_hidden_libraries_are_missing_in_the_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards the library can be loaded like any other."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)

    with hidden("colorsys"), pytest.raises(ModuleNotFoundError, match="colorsys"):
        import_module("colorsys")

    assert import_module("colorsys").rgb_to_hsv(0, 0, 0) == (0, 0, 0)


def test_serve_loads_nothing_that_it_never_uses(tmp_path: Path) -> None:
    """A service that ends for want of a model has loaded all its parts, and no library of another command."""
    modules = loaded(SERVE, SERVING__MODELS=str(tmp_path), STORE__URL=f"sqlite:///{tmp_path / 'store.db'}")

    assert "app.main" in modules
    assert modules & set(NEVER) == set()


def test_a_check_loads_nothing_that_it_never_uses() -> None:
    """What scikit-learn and its kin would load because it is installed stays out of the checks' process."""
    assert loaded(CHECK) & {*UNNEEDED, "pandas", "rich"} == set()


def test_a_service_on_a_new_store_has_not_loaded_alembic(tmp_path: Path) -> None:
    """The tables are there, and what made them was loaded in another process."""
    store = tmp_path / "store.db"
    modules = loaded(STORE, STORE__URL=f"sqlite:///{store}")

    assert ("tables" in modules) == sys.platform.startswith("linux")
    assert not any(name.split(".")[0] == "alembic" for name in modules)
