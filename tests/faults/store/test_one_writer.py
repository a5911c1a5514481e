"""One process per SQLite file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.processes import launch, serving


@pytest.mark.fault
def test_a_second_process_is_refused(tmp_path: Path, example_models: Path) -> None:
    """A second service on the same SQLite file ends at once with one line that says why, and the first serves on."""
    with serving(tmp_path, models=example_models) as first:
        second = launch(tmp_path, models=example_models)
        code = second.process.wait(timeout=DEADLINE_S)

        assert first.call("GET", "/health/ready")[0] == 200
    lines = second.log.read_text(encoding="utf-8").splitlines()

    assert code == 3
    assert len(lines) == 1
    assert "is in use by another plumbline process" in lines[0]
