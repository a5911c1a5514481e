"""`plumbline migrate --to` from under a running service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.load import batch
from tests.support.processes import Postgres, serving
from tests.support.programs import Done, run_command

Run: TypeAlias = Callable[[str, str], Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Copies a store into another one, whose URL with its password is in the environment."""

    def copy(store: str, to: str) -> Done:
        monkeypatch.setenv("PLUMBLINE_MIGRATE_TO", to)
        return run_command("migrate", STORE__URL=store)

    return copy


def test_a_service_moves_to_postgresql(tmp_path: Path, example_models: Path, postgres: Postgres, run: Run) -> None:
    """Copied while serving and once more after the end, a service on PostgreSQL has every prediction and goes on."""
    file, url = f"sqlite:///{tmp_path / 'plumbline.db'}", postgres.create_database("moved")
    with serving(tmp_path, models=example_models) as service:
        assert service.call("POST", "/predict", batch(example_models, "before", 1200))[0] == 200
        first = run(file, url)
        assert service.call("POST", "/predict", batch(example_models, "between"))[0] == 200
    second = run(file, url)
    with serving(tmp_path, models=example_models, store=url) as service:
        replay = service.call("POST", "/predict", batch(example_models, "between"))[0]
        found = [service.call("GET", f"/predictions/{identity}")[0] for identity in ("before-0", "between-199")]
        after = service.call("POST", "/predict", batch(example_models, "after", 1))[0]

    assert first.returncode in (0, 1), first.stderr  # 1: a report was saved while copying
    assert second.returncode == 0, second.stderr
    assert "new store.url" in second.stdout
    assert (replay, found, after) == (200, [200, 200], 200)
    assert postgres.query("moved", "SELECT count(*) FROM predictions") == [(1401,)]


def test_a_target_that_is_away_is_named(tmp_path: Path, run: Run) -> None:
    """A PostgreSQL that does not answer is exit code 2 and one line about --to, without its password."""
    (tmp_path / "store.db").touch()
    done = run(f"sqlite:///{tmp_path / 'store.db'}", "postgresql://u:s3cret@127.0.0.1:1/store")

    assert done.returncode == 2
    assert done.stderr.startswith("error: --to: postgresql")
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr


def test_only_from_sqlite_to_postgresql(tmp_path: Path, run: Run) -> None:
    """Another direction, or a file that is not there, is refused in one line, and no file is made."""
    file = f"sqlite:///{tmp_path / 'store.db'}"
    refused = [run(file, file), run(file, "postgresql://127.0.0.1:1/store")]

    assert [done.returncode for done in refused] == [2, 2]
    assert ["sqlite" in refused[0].stderr, "does not exist" in refused[1].stderr] == [True, True]
    assert list(tmp_path.iterdir()) == []
