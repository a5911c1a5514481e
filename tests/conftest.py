"""What the tests share: the example bundle and a PostgreSQL server, both real, made when first asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ROOT, Postgres


@pytest.fixture(scope="session")
def example_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with the breast_cancer example in it."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run(
        [sys.executable, ROOT / "models" / "examples.py", "breast_cancer", "--models", folder], check=True, cwd=ROOT
    )
    return folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server for databases that nobody crashes."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()
