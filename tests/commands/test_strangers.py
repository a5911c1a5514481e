"""What the commands say where no Plumbline answers, or one that wants a key, and which file they leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.processes import free_port
from tests.support.programs import Done, run_command
from tests.support.receivers import answering

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens there: the configuration is checked, and no more


def run(command: str, url: str, folder: Path) -> Done:
    """A command that needs a service, with a file of its own."""
    file = folder / "rows.csv"
    file.write_text("prediction_id,outcome\np,yes\n")
    words: dict[str, list[object]] = {"export": ["--out", file], "outcomes": [file], "simulate": ["--data", file]}
    return run_command(command, *words[command], "--url", url)


@pytest.mark.parametrize(
    ("command", "scopes"), [("export", "scope read"), ("outcomes", "scopes outcome and read"), ("simulate", "scopes")]
)
@pytest.mark.parametrize("status", [401, 403])
def test_a_service_wants_a_key(command: str, scopes: str, status: int, tmp_path: Path) -> None:
    """One line names the scopes that the key needs, and says how it is passed."""
    with answering(status) as url:
        done = run(command, url, tmp_path)

    assert done.returncode == 1
    assert f"with the {scopes}" in done.stderr
    assert "API key" in done.stderr
    assert "pass " in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("export", "answers 500, and not as Plumbline does: is this a Plumbline service?"),
        ("outcomes", "answers 500, and not as Plumbline does: is this a Plumbline service?"),
        ("simulate", "is this a Plumbline service?"),
    ],
)
def test_somebody_else_answers(command: str, line: str, tmp_path: Path) -> None:
    """The status is told, and the file is as it was."""
    with answering(500) as url:
        done = run(command, url, tmp_path)

    assert done.returncode == 1
    assert line in done.stderr
    assert (tmp_path / "rows.csv").read_text() == "prediction_id,outcome\np,yes\n"


@pytest.mark.parametrize("command", ["export", "outcomes", "simulate"])
def test_nobody_answers(command: str, tmp_path: Path) -> None:
    """One line says where nobody answers, and the file is as it was."""
    done = run(command, f"http://127.0.0.1:{free_port()}", tmp_path)

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "rows.csv").read_text() == "prediction_id,outcome\np,yes\n"


def test_a_service_for_other_machines_needs_a_key(tmp_path: Path, example_models: Path) -> None:
    """``check`` refuses a host that others can reach, until the store or the configuration has a key."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    settings = {"SERVER__HOST": EVERYWHERE, "SERVING__MODELS": str(example_models), "STORE__URL": store}
    refused = run_command("check", **settings)
    made = run_command("keys", "new", "ci", "--scope", "read", **settings)
    passed = run_command("check", **settings)

    assert refused.returncode == 2
    assert f"server.host: {EVERYWHERE} is reachable from other machines" in refused.stderr
    assert (made.returncode, passed.returncode) == (0, 0), made.stderr + passed.stderr


def test_without_channels_nobody_is_told(tmp_path: Path) -> None:
    """``alerts test`` says that there is no channel, which is no failure."""
    done = run_command("alerts", "test", STORE__URL=f"sqlite:///{tmp_path / 'store.db'}")

    assert (done.returncode, done.stdout) == (0, "alerts.notify names no channel: nobody is told of anything\n")
