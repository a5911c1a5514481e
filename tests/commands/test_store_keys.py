"""`plumbline keys` beside a running service, which holds the store, and what it refuses before it acts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.processes import Service, free_port, serving
from tests.support.programs import Done, run_command
from tests.support.receivers import answering

ADMIN = "a" * 40
KEYS = [{"name": "boss", "sha256": hashlib.sha256(ADMIN.encode()).hexdigest(), "scopes": ["admin"]}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, example_models: Path) -> Iterator[Service]:
    """A service on a SQLite file, with one key of the configuration."""
    with serving(tmp_path_factory.mktemp("keys"), models=example_models, settings={"AUTH__KEYS": str(KEYS)}) as running:
        yield running


@pytest.fixture
def config(service: Service, tmp_path: Path) -> Path:
    """The configuration of the service as a file."""
    file = tmp_path / "config.yaml"
    store = {"url": f"sqlite:///{service.log.parent / 'plumbline.db'}"}
    file.write_text(yaml.safe_dump({"server": {"port": service.port}, "store": store, "auth": {"keys": KEYS}}))
    return file


def keys(config: Path, *words: str, api_key: str = ADMIN) -> Done:
    """One command on the service of the configuration."""
    return run_command("keys", *words, "--config", config, "--api-key", api_key)


def test_a_service_that_holds_the_store_is_asked(config: Path) -> None:
    """A key is made, listed and revoked over HTTP, beside those of the configuration, and is shown once."""
    made = keys(config, "new", "ci", "--scope", "read", "--expires", "90d")
    again = keys(config, "new", "ci", "--scope", "read")
    before = keys(config, "list").stdout
    ended = keys(config, "revoke", "ci")
    after = keys(config, "list").stdout
    [key] = re.findall(r"key \(shown once\): (\S+)", made.stdout)

    assert [line.split()[0] for line in before.splitlines()] == ["name", "boss", "ci"]
    assert [text.split()[-1] for text in (before, after)] == ["active", "revoked"]
    assert (ended.returncode, ended.stdout) == (0, "ci is revoked\n")
    assert key not in before + after
    assert (again.returncode, "answers 409" in again.stderr) == (1, True)


@pytest.mark.parametrize("words", [("new", "other"), ("list",), ("revoke", "other")])
def test_the_service_wants_a_key_of_its_own(config: Path, words: tuple[str, ...]) -> None:
    """Without the scope admin, one line says which scope is needed and how a key is passed."""
    done = keys(config, *words, api_key="b" * 40)

    assert done.returncode == 1
    assert done.stderr.endswith("wants an API key with the scope admin: pass --api-key or set PLUMBLINE_API_KEY\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("new", "boss"), "error: a key named boss is in auth.keys of the configuration"),
        (("revoke", "boss"), "error: the key boss is in the configuration: take it out of auth.keys and restart"),
        (("new", "ci", "--expires", "soon"), "error: --expires: "),
    ],
)
def test_what_no_store_can_do_is_refused(config: Path, words: tuple[str, ...], line: str) -> None:
    """A key of the configuration is changed there alone, and a key ends after a length of time."""
    done = keys(config, *words)

    assert (done.returncode, done.stderr.startswith(line)) == (2, True)


def test_another_address_is_asked_where_it_is_named(tmp_path: Path) -> None:
    """With --url the store is left alone: an address where nobody or somebody else answers is named in one line."""
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"store": {"url": f"sqlite:///{tmp_path / 'store.db'}"}}))
    nobody = run_command("keys", "list", "--config", file, "--url", f"http://127.0.0.1:{free_port()}")
    with answering(404) as url:
        other = run_command("keys", "revoke", "ci", "--config", file, "--url", url)

    assert (nobody.returncode, other.returncode) == (1, 1)
    assert "no service answers at http://127.0.0.1" in nobody.stderr
    assert other.stderr == f"error: {url} answers 404, and not as Plumbline does: is this a Plumbline service?\n"
    assert not (tmp_path / "store.db").exists()
