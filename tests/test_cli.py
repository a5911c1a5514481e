"""The command line: exit codes and what it says."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli import main
from app.config.loader import load_config
from app.config.settings import Config
from tests.support.models.bundles import rewrite
from tests.support.models.tasks import Fitted

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file that serves a small bundle from a store of its own."""
    for name in [name for name in os.environ if name.startswith("PLUMBLINE__")]:
        monkeypatch.delenv(name)
    file = tmp_path / "config.yaml"
    serving = {"models": str(small_models[0]), "active": "text"}
    file.write_text(yaml.safe_dump({"serving": serving, "store": {"url": f"sqlite:///{tmp_path}/store.db"}}))
    return file


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run a command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["plumbline", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_check_prints_what_holds(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The effective configuration with the environment in it, ready to be a file again; the bundle has been proved."""
    monkeypatch.setenv("PLUMBLINE__SERVER__PORT", "9000")

    assert run(monkeypatch, "check", "--config", config) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["server"]["port"] == 9000
    assert yaml.safe_load(printed.out).keys() == Config.model_fields.keys()
    assert "complete, untampered and loads" in printed.err


@pytest.mark.parametrize("command", ["check", "serve", "migrate"])
def test_a_wrong_configuration_is_exit_code_2(
    command: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error for each finding, and no more."""
    config.write_text("server: {port: x}\nfoo: 1\n")

    assert run(monkeypatch, command, "--config", config) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"error: {config}:") for line in lines)


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize("active", ["text/7", "nobody"])
def test_a_refused_bundle_is_exit_code_3(
    command: str, active: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle that is not there or not whole stops the start with one line, before a port is opened."""
    monkeypatch.setenv("PLUMBLINE__SERVING__ACTIVE", active)

    assert run(monkeypatch, command, "--config", config) == 3
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err


def test_a_damaged_bundle_is_exit_code_3(
    config: Path,
    tmp_path: Path,
    small_models: tuple[Path, dict[str, Fitted]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A model file that is not the one that was bundled is not loaded."""
    import shutil

    shutil.copytree(small_models[0] / "text", tmp_path / "models" / "text")
    rewrite(
        tmp_path / "models" / "text" / "1",
        files={"model.skops": "0" * 64, "reference.npz": "0" * 64, "profile.json": "0" * 64},
    )
    monkeypatch.setenv("PLUMBLINE__SERVING__MODELS", str(tmp_path / "models"))

    assert run(monkeypatch, "check", "--config", config) == 3
    assert "sha256" in capsys.readouterr().err


def test_migrate_says_what_it_did(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first run makes the schema, the second finds it up to date."""
    assert run(monkeypatch, "migrate", "--config", config) == 0
    assert "migrated from nothing" in capsys.readouterr().out
    assert run(monkeypatch, "migrate", "--config", config) == 0
    assert "already up to date" in capsys.readouterr().out


def test_keys_are_shown_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A key and the entry that goes into the configuration: its hash, which is that of the key."""
    assert run(monkeypatch, "keys", "ci", "--scope", "predict", "--scope", "read") == 0
    printed = capsys.readouterr().out
    key = re.search(r"plumb_\S+", printed)
    entry = yaml.safe_load(printed.split("config.yaml:")[1])

    assert key
    assert entry == [
        {"name": "ci", "sha256": hashlib.sha256(key[0].encode()).hexdigest(), "scopes": ["predict", "read"]}
    ]
    assert Config.model_validate({"auth": {"keys": entry}}).auth.keys[0].name == "ci"


@pytest.mark.parametrize("arguments", [["a b"], ["ci", "--scope", "everything"]])
def test_wrong_keys_are_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name or scope that the configuration would refuse makes no key."""
    assert run(monkeypatch, "keys", *arguments) == 2
    printed = capsys.readouterr()
    assert "plumb_" not in printed.out
    assert len(printed.err.splitlines()) == 1


def test_the_module_is_the_command(config: Path) -> None:
    """``python -m app`` is ``plumbline``: the same exit code and the same line."""
    config.write_text("server: {port: x}\n")
    ended = subprocess.run(
        [sys.executable, "-m", "app", "check", "--config", config], cwd=ROOT, capture_output=True, check=False
    )

    assert ended.returncode == 2
    assert ended.stderr.decode() == f"error: {config}:1: server.port: Input should be a valid integer\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_output_holds_any_text(config: Path, encoding: str) -> None:
    """Names in any script are written as UTF-8 to a pipe, whatever the locale says."""
    content = yaml.safe_load(config.read_text())
    (folder := config.with_name("größe-モデル")).symlink_to(content["serving"]["models"])
    content["serving"]["models"] = str(folder)
    config.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    words = [sys.executable, "-m", "app", "check", "--config", str(config)]
    done = subprocess.run(
        words, cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "größe-モデル" in done.stdout.decode("utf-8")


def test_stored_keys_are_made_listed_and_revoked(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no service runs, the commands act on the store; a list shows neither a key nor its hash."""
    new = ("keys", "new", "ci", "--scope", "predict", "--model", "credit", "--expires", "90d", "--config", config)
    assert run(monkeypatch, *new) == 0
    key = re.search(r"plumb_\S+", capsys.readouterr().out)
    assert key
    assert run(monkeypatch, *new) == 1
    assert run(monkeypatch, "keys", "list", "--config", config) == 0
    before = capsys.readouterr().out
    assert run(monkeypatch, "keys", "revoke", "ci", "--config", config) == 0
    assert run(monkeypatch, "keys", "revoke", "nobody", "--config", config) == 1
    assert run(monkeypatch, "keys", "list", "--config", config) == 0

    assert before.splitlines()[1].split()[:3] == ["ci", "predict", "credit"]
    assert before.split()[-1] == "active"
    assert capsys.readouterr().out.split()[-1] == "revoked"
    assert key[0] not in before
    assert hashlib.sha256(key[0].encode()).hexdigest() not in before


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` prints the version of the package and no more."""
    assert run(monkeypatch, "--version") == 0
    assert re.fullmatch(r"plumbline \S+\n", capsys.readouterr().out)


def test_init_writes_every_key_with_its_meaning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is the configuration at its defaults, every key below its meaning; one that is there is kept."""
    folder = tmp_path / "new"
    file = folder / "config.yaml"

    assert run(monkeypatch, "init", folder) == 0
    assert "plumbline bundle MODEL" in capsys.readouterr().out
    assert load_config(file, {}) == Config()
    written = file.read_text()
    comments = re.sub(r"\s+#\s+", " ", "\n".join(line for line in written.splitlines() if line.lstrip()[:1] == "#"))
    lines = [line.split("#")[0].strip() for line in written.splitlines()]
    for section in Config.model_fields.values():
        model: Any = section.annotation
        assert model.__doc__ in comments
        for name, field in model.model_fields.items():
            assert any(line.startswith(f"{field.alias or name}:") for line in lines), name
            words = re.sub(r"\[[^\]]*\]\(([^)]*)\)", r"docs/\1", field.description or "")
            assert words in comments, name
    file.write_text("server: {port: 9}\n")
    assert run(monkeypatch, "init", folder) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert file.read_text() == "server: {port: 9}\n"
    assert run(monkeypatch, "init", folder, "--force") == 0
    assert load_config(file, {}) == Config()
    assert run(monkeypatch, "init", file) == 2


def test_no_file_is_the_defaults_and_the_environment(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without config.yaml the environment alone configures; a file that is named must be there."""
    empty = config.parent / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    settings = yaml.safe_load(config.read_text())
    monkeypatch.setenv("PLUMBLINE__SERVING__MODELS", settings["serving"]["models"])
    monkeypatch.setenv("PLUMBLINE__SERVING__ACTIVE", "text")

    assert run(monkeypatch, "check") == 0
    assert yaml.safe_load(capsys.readouterr().out)["serving"]["active"] == "text"
    assert run(monkeypatch, "check", "--config", "config.yaml") == 2
    assert "config.yaml: cannot be read" in capsys.readouterr().err
